"""HTTP triggers for dead letters, replays and subscriptions that wait; the master key alone opens them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from functions.requests import body_of, query_of
from functions.responses import as_json, register
from shared.bridge import bridge

if TYPE_CHECKING:
    from functions.responses import Work

blueprint = func.Blueprint()


# Each imports what it starts: none of it is on the way of a receiver's cold start.
def _list(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.dead_letters import list_dead_letters

    return as_json(list_dead_letters(bridge(), query_of(req)))


def _get(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.dead_letters import get_dead_letter

    return as_json(get_dead_letter(bridge(), req.route_params["kind"], req.route_params["id"]))


def _retry(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.dead_letters import retry

    answer = retry(bridge(), req.route_params["kind"], req.route_params["id"])
    return as_json(answer, status=HTTPStatus.ACCEPTED)


def _discard(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.dead_letters import discard, reason_in

    reason = reason_in(query_of(req), body_of(req))
    return as_json(discard(bridge(), req.route_params["kind"], req.route_params["id"], reason))


def _replay_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.dead_letters import replay_dead_letters

    return as_json(replay_dead_letters(bridge(), body_of(req)))


def _replay_events(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import replay_events

    answer = replay_events(bridge(), req.route_params["subscription"], query_of(req), body_of(req))
    return as_json(answer, status=HTTPStatus.OK if answer["dry_run"] else HTTPStatus.ACCEPTED)


def _wake(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import try_subscription

    return as_json(try_subscription(bridge(), req.route_params["subscription"]), status=HTTPStatus.ACCEPTED)


def _rotate(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import rotate_by_id

    return as_json(rotate_by_id(bridge(), req.route_params["subscription"]))


ROUTES: tuple[tuple[str, str, str, Work], ...] = (
    ("ListDeadLetters", "GET", "ops/deadletters", _list),
    ("GetDeadLetter", "GET", "ops/deadletters/{kind}/{id}", _get),
    ("RetryDeadLetter", "POST", "ops/deadletters/{kind}/{id}/retry", _retry),
    ("DiscardDeadLetter", "DELETE", "ops/deadletters/{kind}/{id}", _discard),
    ("ReplayDeadLetters", "POST", "ops/deadletters/replay", _replay_dead_letters),
    ("ReplayEvents", "POST", "ops/subscriptions/{subscription}/replay", _replay_events),
    ("WakeSubscription", "POST", "ops/subscriptions/{subscription}/wake", _wake),
    ("RotateSecretNow", "POST", "ops/subscriptions/{subscription}/rotate", _rotate),
)
for _route in ROUTES:
    register(blueprint, func.AuthLevel.ADMIN, *_route)
