"""HTTP triggers for operators: webhooks, status, retention, months and dead letters; they require the master key."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from functions.requests import body_of, is_dry, query_of
from functions.responses import Work, as_json, register
from shared.bridge import bridge

if TYPE_CHECKING:
    from shared.webhooks import Report

# Longer than the lease of a sync whose process died, 45 s; an ordinary sync takes a second or two.
_PATIENCE_SECONDS = 50.0
# The platform cuts off a request after 230 seconds; the caller repeats it until the answer is `complete`.
_DELETING_SECONDS = 100.0

blueprint = func.Blueprint()


def _reported(report: Report) -> func.HttpResponse:
    return as_json(report.to_dict(), status=HTTPStatus.CONFLICT if report.problem else HTTPStatus.OK)


# Imports are inside these functions, so that no receiver's cold start loads them.
def _sync(req: func.HttpRequest) -> func.HttpResponse:
    from shared.webhooks import sync

    forget = req.params.get("forget_orphans", "").lower() == "true"
    return _reported(sync(bridge(), patience=_PATIENCE_SECONDS, forget_orphans=forget))


def _delete_all(_: func.HttpRequest) -> func.HttpResponse:
    from shared.webhooks import delete_all

    return _reported(delete_all(bridge(), patience=_PATIENCE_SECONDS))


def _status(_: func.HttpRequest) -> func.HttpResponse:
    from shared.api.status import status

    return as_json(status(bridge()))


def _retain(req: func.HttpRequest) -> func.HttpResponse:
    from shared.privacy.retention import apply_retention

    dry, months = is_dry(req, "months"), req.params.get("months")
    return as_json(apply_retention(bridge(), dry=dry, seconds=_DELETING_SECONDS, months=months))


def _export_month(req: func.HttpRequest) -> func.HttpResponse:
    from shared.privacy.retention import export

    lines, follows = export(bridge().storage, req.route_params["month"], req.params.get("continuation"))
    headers = {"Continuation": follows} if follows else {}
    return func.HttpResponse(lines, headers=headers, mimetype="application/x-ndjson")


def _drop_month(req: func.HttpRequest) -> func.HttpResponse:
    from shared.privacy.retention import drop

    return as_json(drop(bridge(), req.route_params["month"], dry=is_dry(req), seconds=_DELETING_SECONDS))


def _dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import list_dead_letters

    return as_json(list_dead_letters(bridge(), query_of(req)))


def _dead_letter(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import get_dead_letter

    return as_json(get_dead_letter(bridge(), **req.route_params))


def _retry(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import retry

    return as_json(retry(bridge(), **req.route_params), status=HTTPStatus.ACCEPTED)


def _discard(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import discard

    return as_json(discard(bridge(), **req.route_params, query=query_of(req), body=body_of(req)))


def _replay_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    from shared.pipeline.replay import replay_dead_letters

    return as_json(replay_dead_letters(bridge(), body_of(req)))


ROUTES: tuple[tuple[str, str, str, Work], ...] = (
    ("SyncWebhooksNow", "POST", "ops/webhooks/sync", _sync),
    ("DeleteWebhooks", "DELETE", "ops/webhooks", _delete_all),
    ("GetStatus", "GET", "ops/status", _status),
    ("ApplyRetentionNow", "POST", "ops/retention", _retain),
    ("ExportMonth", "GET", "ops/months/{month}", _export_month),
    ("DropMonth", "DELETE", "ops/months/{month}", _drop_month),
    ("ListDeadLetters", "GET", "ops/deadletters", _dead_letters),
    ("GetDeadLetter", "GET", "ops/deadletters/{kind}/{id}", _dead_letter),
    ("RetryDeadLetter", "POST", "ops/deadletters/{kind}/{id}/retry", _retry),
    ("DiscardDeadLetter", "DELETE", "ops/deadletters/{kind}/{id}", _discard),
    ("ReplayDeadLetters", "POST", "ops/deadletters/replay", _replay_dead_letters),
)
for _route in ROUTES:
    register(blueprint, func.AuthLevel.ADMIN, *_route)
