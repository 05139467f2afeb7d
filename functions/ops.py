"""HTTP triggers for whoever runs the bridge; the master key alone opens them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

import azure.functions as func

from functions.requests import body_of, is_dry
from functions.responses import as_json, reply, serve
from shared.bridge import bridge
from shared.once import later

if TYPE_CHECKING:
    from functions.responses import Work
    from shared.webhooks.sync import Report

# A timer's sync takes a second or two, but one whose process died holds its lease to the end: 45 s.
_PATIENCE_SECONDS = 50.0
# The platform cuts off an answer after 230 seconds; whoever asks goes on with another request.
_DELETING_SECONDS = 100.0

blueprint = func.Blueprint()


def _reported(report: Report) -> func.HttpResponse:
    return as_json(report.to_dict(), status=HTTPStatus.CONFLICT if report.problem else HTTPStatus.OK)


def _sync(req: func.HttpRequest) -> func.HttpResponse:
    forget = req.params.get("forget_orphans", "").lower() == "true"
    sync = later("shared.webhooks.registrations.sync")
    return _reported(sync(bridge(), patience=_PATIENCE_SECONDS, forget_orphans=forget))


def _delete_all(_: func.HttpRequest) -> func.HttpResponse:
    return _reported(later("shared.webhooks.registrations.delete_all")(bridge(), patience=_PATIENCE_SECONDS))


def _replay_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    return as_json(later("shared.pipeline.replay.replay_dead_letters")(bridge(), body_of(req)))


def _replay_events(req: func.HttpRequest) -> func.HttpResponse:
    replay = later("shared.pipeline.replay.replay_events")
    return as_json(replay(bridge(), req.route_params["subscription"], body_of(req)), status=HTTPStatus.ACCEPTED)


def _retain(req: func.HttpRequest) -> func.HttpResponse:
    retain = later("shared.privacy.retention.apply_retention")
    return as_json(retain(bridge(), dry=is_dry(req), seconds=_DELETING_SECONDS).to_dict())


def _export_month(req: func.HttpRequest) -> func.HttpResponse:
    export = later("shared.privacy.retention.export")
    lines, follows = export(bridge().storage, req.route_params["month"], req.params.get("continuation", ""))
    headers = {"Continuation": quote(follows)} if follows else {}
    return func.HttpResponse(lines, headers=headers, mimetype="application/x-ndjson")


def _drop_month(req: func.HttpRequest) -> func.HttpResponse:
    drop = later("shared.privacy.retention.drop")
    done = drop(bridge(), req.route_params["month"], dry=is_dry(req), seconds=_DELETING_SECONDS)
    return as_json(done.to_dict())


ROUTES: tuple[tuple[str, str, str, Work], ...] = (
    ("SyncWebhooksNow", "POST", "ops/webhooks/sync", _sync),
    ("DeleteWebhooks", "DELETE", "ops/webhooks", _delete_all),
    ("GetStatus", "GET", "ops/status", reply("shared.api.status.status")),
    ("ReplayDeadLetters", "POST", "ops/deadletters/replay", _replay_dead_letters),
    ("ReplayEvents", "POST", "ops/subscriptions/{subscription}/replay", _replay_events),
    ("ApplyRetentionNow", "POST", "ops/retention", _retain),
    ("ExportMonth", "GET", "ops/months/{month}", _export_month),
    ("DropMonth", "DELETE", "ops/months/{month}", _drop_month),
    ("RotateSecretNow", "POST", "ops/subscriptions/{subscription}/rotate", reply("shared.api.subscribe.rotate_by_id")),
)
for _route in ROUTES:
    serve(blueprint, func.AuthLevel.ADMIN, *_route)
