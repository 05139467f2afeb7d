"""HTTP triggers for whoever runs the bridge; the master key alone opens them."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from functions.requests import body_of
from functions.responses import answer, as_json
from shared.api.status import status
from shared.bridge import bridge
from shared.storage.leases import LENGTH
from shared.webhooks.registrations import delete_all, sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.webhooks.sync import Report

# A timer's sync takes a second or two, but one whose process died holds its lease to the end.
_PATIENCE_SECONDS = LENGTH.total_seconds() + 5

blueprint = func.Blueprint()


def _reported(report: Report) -> func.HttpResponse:
    return as_json(report.to_dict(), status=HTTPStatus.CONFLICT if report.problem else HTTPStatus.OK)


def _sync(req: func.HttpRequest) -> func.HttpResponse:
    forget = req.params.get("forget_orphans", "").lower() == "true"
    return _reported(sync(bridge(), patience=_PATIENCE_SECONDS, forget_orphans=forget))


def _delete_all(_: func.HttpRequest) -> func.HttpResponse:
    return _reported(delete_all(bridge(), patience=_PATIENCE_SECONDS))


# Replays and rotations are asked for so rarely that no other function should wait for them at a cold start.
def _replay_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import replay_dead_letters

    return as_json(replay_dead_letters(bridge(), body_of(req)))


def _replay_events(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import replay_events

    replayed = replay_events(bridge(), req.route_params["subscription"], body_of(req))
    return as_json(replayed, status=HTTPStatus.ACCEPTED)


def _rotate(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.subscribe import rotate_by_id

    return as_json(rotate_by_id(bridge(), req.route_params["subscription"]))


ROUTES: tuple[tuple[str, str, str, Callable[[func.HttpRequest], func.HttpResponse]], ...] = (
    ("SyncWebhooksNow", "POST", "ops/webhooks/sync", _sync),
    ("DeleteWebhooks", "DELETE", "ops/webhooks", _delete_all),
    ("GetStatus", "GET", "ops/status", lambda _: as_json(status(bridge()))),
    ("ReplayDeadLetters", "POST", "ops/deadletters/replay", _replay_dead_letters),
    ("ReplayEvents", "POST", "ops/subscriptions/{subscription}/replay", _replay_events),
    ("RotateSecretNow", "POST", "ops/subscriptions/{subscription}/rotate", _rotate),
)


def _register(name: str, method: str, route: str, work: Callable[[func.HttpRequest], func.HttpResponse]) -> None:
    @blueprint.function_name(name)
    @blueprint.route(route, methods=[method], auth_level=func.AuthLevel.ADMIN)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        return answer(partial(work, req))


for _route in ROUTES:
    _register(*_route)
