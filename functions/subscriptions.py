"""HTTP triggers of subscriptions, for flows and for operators."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

import azure.functions as func

from functions.requests import address, body_of, query_of, request_of
from functions.responses import Work, as_json, refusal, register
from shared.api.parameters import check_names
from shared.bridge import bridge

blueprint = func.Blueprint()

KEYED, OPEN, MASTER = func.AuthLevel.FUNCTION, func.AuthLevel.ANONYMOUS, func.AuthLevel.ADMIN
# Not an event: a post to this name ends all subscriptions of a callback address.
UNSUBSCRIBE = "unsubscribe"


# Imports are inside these functions, so that no receiver's cold start loads them.
def _by_event(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import subscribe, unsubscribe_address

    name = req.route_params["event"]
    if name.lower() == UNSUBSCRIBE:
        return as_json(unsubscribe_address(bridge(), body_of(req)))
    envelope, headers = subscribe(bridge(), name, body_of(req), address(req))
    return as_json(envelope, status=HTTPStatus.CREATED, headers=headers)


def _unsubscribe(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import unsubscribe

    return as_json(unsubscribe(bridge(), req.route_params["webhook_id"]))


def _rotate(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import rotate

    return as_json(rotate(bridge(), req.route_params["webhook_id"]))


def _list(_: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import listed

    return as_json(listed(bridge()))


def _replay(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import replay_events

    answer = replay_events(bridge(), req.route_params["subscription"], query_of(req), body_of(req))
    return as_json(answer, status=HTTPStatus.OK if answer["dry_run"] else HTTPStatus.ACCEPTED)


def _wake(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import try_subscription

    return as_json(try_subscription(bridge(), req.route_params["subscription"]), status=HTTPStatus.ACCEPTED)


def _rotate_now(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import rotate_by_id

    return as_json(rotate_by_id(bridge(), req.route_params["subscription"]))


def _strict(work: Work, req: func.HttpRequest) -> func.HttpResponse:
    check_names(request_of(req).query, ())
    return work(req)


# The host calls the first function by name whose route matches, however literal another route is: no two of these may
# match the same path and method.
for _level, _name, _method, _route, _work in (
    (KEYED, "Subscribe", "POST", "v2/webhooks/{event}", _by_event),
    (OPEN, "DeleteWebhookByID", "DELETE", "v2/webhooks/{webhook_id}", _unsubscribe),
    (KEYED, "RotateSecret", "POST", "v2/webhooks/{webhook_id}/rotate", _rotate),
    (KEYED, "GetSubscriptions", "GET", "v2/subscriptions", _list),
):
    register(blueprint, _level, _name, _method, _route, partial(_strict, _work), render=refusal)
for _name, _method, _route, _work in (
    ("ReplayEvents", "POST", "ops/subscriptions/{subscription}/replay", _replay),
    ("WakeSubscription", "POST", "ops/subscriptions/{subscription}/wake", _wake),
    ("RotateSecretNow", "POST", "ops/subscriptions/{subscription}/rotate", _rotate_now),
):
    register(blueprint, MASTER, _name, _method, _route, _work)
