"""HTTP triggers for subscribers: one a row of the events table, and those that look after subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

from functions.replies import answer, as_json, refusal
from functions.requests import origin
from shared.bridge import bridge
from shared.events import EVENTS
from shared.subscribing import event_of, listed, rotate, subscribe, unsubscribe, unsubscribe_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.events import Event

blueprint = func.Blueprint()

KEYED, OPEN = func.AuthLevel.FUNCTION, func.AuthLevel.ANONYMOUS
BY_EVENT, BY_ID = "v2/webhooks/{event}", "v2/webhooks/{webhook_id}"


def _subscribed(req: func.HttpRequest, event: Event) -> func.HttpResponse:
    told, location = subscribe(bridge(), event, req.get_body(), "://".join(origin(req)))
    return as_json(told, status=201, headers={"Location": location})


def _posted_or_deleted(event: Event) -> Callable[[func.HttpRequest], func.HttpResponse]:
    def work(req: func.HttpRequest) -> func.HttpResponse:
        if req.method == "DELETE":
            return as_json(unsubscribe_address(bridge(), req.get_body(), event))
        return _subscribed(req, event)

    return work


# Literal paths win over those with a parameter, in Azure and here: names in other spellings come to the last rows.
ROUTES: tuple[
    tuple[str, tuple[str, ...], str, func.AuthLevel, Callable[[func.HttpRequest], func.HttpResponse]], ...
] = (
    *(
        (event.name, ("POST", "DELETE"), BY_EVENT.format(event=event.name), KEYED, _posted_or_deleted(event))
        for event in EVENTS
    ),
    (
        "Unsubscribe",
        ("POST",),
        BY_EVENT.format(event="unsubscribe"),
        KEYED,
        lambda req: as_json(unsubscribe_address(bridge(), req.get_body())),
    ),
    ("Subscribe", ("POST",), BY_EVENT, KEYED, lambda req: _subscribed(req, event_of(req.route_params["event"]))),
    (
        "DeleteWebhookByID",
        ("DELETE",),
        BY_ID,
        OPEN,
        lambda req: as_json(unsubscribe(bridge(), req.route_params["webhook_id"])),
    ),
    (
        "RotateSecret",
        ("POST",),
        f"{BY_ID}/rotate",
        KEYED,
        lambda req: as_json(rotate(bridge(), req.route_params["webhook_id"])),
    ),
    ("GetSubscriptions", ("GET",), "v2/subscriptions", KEYED, lambda req: as_json(listed(bridge()))),
)


def _register(
    name: str,
    methods: tuple[str, ...],
    route: str,
    level: func.AuthLevel,
    work: Callable[[func.HttpRequest], func.HttpResponse],
) -> None:
    @blueprint.function_name(name)
    @blueprint.route(route, methods=list(methods), auth_level=level)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        return answer(lambda: work(req), refusal)


for _route in ROUTES:
    _register(*_route)
