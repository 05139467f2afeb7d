"""HTTP triggers for subscribers: one a row of the events table, and those that look after subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

from functions.replies import answer, as_json, refusal
from functions.requests import origin
from shared.bridge import bridge
from shared.events.table import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from shared.events.table import Event

    Work = Callable[[ModuleType, func.HttpRequest], func.HttpResponse]

blueprint = func.Blueprint()

KEYED, OPEN = func.AuthLevel.FUNCTION, func.AuthLevel.ANONYMOUS
BY_EVENT, BY_ID = "v2/webhooks/{event}", "v2/webhooks/{webhook_id}"


def _subscribe(subscribing: ModuleType, req: func.HttpRequest, event: Event) -> func.HttpResponse:
    told, location = subscribing.subscribe(bridge(), event, req.get_body(), "://".join(origin(req)))
    return as_json(told, status=201, headers={"Location": location})


def _either(event: Event) -> Work:
    def work(subscribing: ModuleType, req: func.HttpRequest) -> func.HttpResponse:
        if req.method == "DELETE":
            return as_json(subscribing.unsubscribe_address(bridge(), req.get_body(), event))
        return _subscribe(subscribing, req, event)

    return work


def _named(subscribing: ModuleType, req: func.HttpRequest) -> func.HttpResponse:
    return _subscribe(subscribing, req, subscribing.event_of(req.route_params["event"]))


def _leave(subscribing: ModuleType, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(subscribing.unsubscribe(bridge(), req.route_params["webhook_id"]))


def _leave_all(subscribing: ModuleType, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(subscribing.unsubscribe_address(bridge(), req.get_body()))


def _rotate(subscribing: ModuleType, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(subscribing.rotate(bridge(), req.route_params["webhook_id"]))


def _list(subscribing: ModuleType, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(subscribing.listed(bridge()))


# Literal paths win over those with a parameter, in Azure and here: names in other spellings come to Subscribe.
ROUTES: tuple[tuple[str, tuple[str, ...], str, func.AuthLevel, Work], ...] = (
    *((event.name, ("POST", "DELETE"), BY_EVENT.format(event=event.name), KEYED, _either(event)) for event in EVENTS),
    ("Subscribe", ("POST",), BY_EVENT, KEYED, _named),
    ("Unsubscribe", ("POST",), BY_EVENT.format(event="unsubscribe"), KEYED, _leave_all),
    ("DeleteWebhookByID", ("DELETE",), BY_ID, OPEN, _leave),
    ("RotateSecret", ("POST",), f"{BY_ID}/rotate", KEYED, _rotate),
    ("GetSubscriptions", ("GET",), "v2/subscriptions", KEYED, _list),
)


def _register(name: str, methods: tuple[str, ...], route: str, level: func.AuthLevel, work: Work) -> None:
    @blueprint.function_name(name)
    @blueprint.route(route, methods=list(methods), auth_level=level)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        # Asked for so rarely that no other function should wait for it at a cold start.
        from shared.api import subscribe as subscribing

        return answer(lambda: work(subscribing, req), refusal)


for _route in ROUTES:
    _register(*_route)
