"""HTTP triggers for whoever runs the bridge; the master key alone opens them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from functions.replies import answer, as_json
from shared.bridge import bridge
from shared.leases import LENGTH
from shared.registrations import delete_all, sync
from shared.status import status

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.registrar import Report

# A timer's sync takes a second or two, but one whose process died holds its lease to the end.
_PATIENCE_SECONDS = LENGTH.total_seconds() + 5

blueprint = func.Blueprint()


def _reported(report: Report) -> func.HttpResponse:
    return as_json(report.told(), status=HTTPStatus.CONFLICT if report.problem else HTTPStatus.OK)


ROUTES: tuple[tuple[str, str, str, Callable[[], func.HttpResponse]], ...] = (
    ("SyncWebhooksNow", "POST", "ops/webhooks/sync", lambda: _reported(sync(bridge(), patience=_PATIENCE_SECONDS))),
    ("DeleteWebhooks", "DELETE", "ops/webhooks", lambda: _reported(delete_all(bridge(), patience=_PATIENCE_SECONDS))),
    ("GetStatus", "GET", "ops/status", lambda: as_json(status(bridge()))),
)


def _register(name: str, method: str, route: str, work: Callable[[], func.HttpResponse]) -> None:
    @blueprint.function_name(name)
    @blueprint.route(route, methods=[method], auth_level=func.AuthLevel.ADMIN)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        return answer(work)


for _route in ROUTES:
    _register(*_route)
