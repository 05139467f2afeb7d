"""HTTP triggers for subscribers: one that takes every event, and those that look after subscriptions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import azure.functions as func

from functions.requests import address, body_of, request_of
from functions.responses import as_json, refusal, register
from shared.api.parameters import check_names
from shared.bridge import bridge

if TYPE_CHECKING:
    from functions.responses import Work

blueprint = func.Blueprint()

KEYED, OPEN = func.AuthLevel.FUNCTION, func.AuthLevel.ANONYMOUS
# A word that no event may be spelled as: who posts there ends what an address is subscribed to.
UNSUBSCRIBE = "unsubscribe"


def _by_event(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import subscribe, unsubscribe_address

    name = req.route_params["event"]
    if name.lower() == UNSUBSCRIBE:
        return as_json(unsubscribe_address(bridge(), body_of(req)))
    envelope, headers = subscribe(bridge(), name, body_of(req), address(req))
    return as_json(envelope, status=201, headers=headers)


def _unsubscribe(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import unsubscribe

    return as_json(unsubscribe(bridge(), req.route_params["webhook_id"]))


def _rotate(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import rotate

    return as_json(rotate(bridge(), req.route_params["webhook_id"]))


def _list(_: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import listed

    return as_json(listed(bridge()))


# The host takes the first function in order of names whose route fits, however literal another one's is: no two of
# these may fit one path and method.
ROUTES: tuple[tuple[func.AuthLevel, str, str, str, Work], ...] = (
    (KEYED, "Subscribe", "POST", "v2/webhooks/{event}", _by_event),
    (OPEN, "DeleteWebhookByID", "DELETE", "v2/webhooks/{webhook_id}", _unsubscribe),
    (KEYED, "RotateSecret", "POST", "v2/webhooks/{webhook_id}/rotate", _rotate),
    (KEYED, "GetSubscriptions", "GET", "v2/subscriptions", _list),
)


def _strict(work: Work, req: func.HttpRequest) -> func.HttpResponse:
    check_names(request_of(req).query, ())
    return work(req)


for _level, _name, _method, _route, _work in ROUTES:
    register(blueprint, _level, _name, _method, _route, partial(_strict, _work), render=refusal)
