"""HTTP triggers that receive the PBX's webhooks: one a row of the events table, one for other spellings."""

from __future__ import annotations

from functools import partial

import azure.functions as func

from functions.requests import body_of, keys_of
from functions.responses import as_json, serve
from shared.bridge import bridge
from shared.errors import Invalid
from shared.events.receive import accept
from shared.events.table import EVENTS, Event, find_event
from shared.webhooks.table import check_key

blueprint = func.Blueprint()

_ROWS = tuple(row for row in EVENTS if row.source == "pbx")
_NAMES = tuple(row.name for row in _ROWS)


def _receive(event: Event, req: func.HttpRequest) -> func.HttpResponse:
    here = bridge()
    check_key(here.settings, keys_of(req))
    return as_json({"id": accept(here.storage, here.settings, event, body_of(req))}, status=202)


def _receive_other(req: func.HttpRequest) -> func.HttpResponse:
    check_key(bridge().settings, keys_of(req))
    event = find_event(req.route_params["event"])
    if event not in _ROWS:
        raise Invalid({"event": f"one of {', '.join(_NAMES)} is expected"})
    return _receive(event, req)


for _row in _ROWS:
    serve(blueprint, func.AuthLevel.FUNCTION, _row.function, "POST", f"events/{_row.name}", partial(_receive, _row))
# Only what none of the others is for: the host knows no precedence of routes.
_OTHER = f"events/{{event:regex(^(?!({'|'.join(_NAMES)})$))}}"
serve(blueprint, func.AuthLevel.FUNCTION, "ReceiveEvent", "POST", _OTHER, _receive_other)
