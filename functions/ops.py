"""HTTP triggers for whoever runs the bridge; the master key alone opens them."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from functions.replies import answer, as_json
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
    return as_json(report.told(), status=HTTPStatus.CONFLICT if report.problem else HTTPStatus.OK)


def _sync(req: func.HttpRequest) -> func.HttpResponse:
    forget = req.params.get("forget_orphans", "").lower() == "true"
    return _reported(sync(bridge(), patience=_PATIENCE_SECONDS, forget_orphans=forget))


def _delete_all(_: func.HttpRequest) -> func.HttpResponse:
    return _reported(delete_all(bridge(), patience=_PATIENCE_SECONDS))


ROUTES: tuple[tuple[str, str, str, Callable[[func.HttpRequest], func.HttpResponse]], ...] = (
    ("SyncWebhooksNow", "POST", "ops/webhooks/sync", _sync),
    ("DeleteWebhooks", "DELETE", "ops/webhooks", _delete_all),
    ("GetStatus", "GET", "ops/status", lambda _: as_json(status(bridge()))),
)


def _register(name: str, method: str, route: str, work: Callable[[func.HttpRequest], func.HttpResponse]) -> None:
    @blueprint.function_name(name)
    @blueprint.route(route, methods=[method], auth_level=func.AuthLevel.ADMIN)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        return answer(partial(work, req))


for _route in ROUTES:
    _register(*_route)
