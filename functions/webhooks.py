"""HTTP triggers that take the PBX's webhooks, one a row of the events table."""

from __future__ import annotations

from functools import partial

import azure.functions as func

from functions.requests import body_of, keys_of
from functions.responses import as_json, serve
from shared.bridge import bridge
from shared.events.receive import accept
from shared.events.table import EVENTS, Event
from shared.webhooks.table import check_key

blueprint = func.Blueprint()


def _receive(event: Event, req: func.HttpRequest) -> func.HttpResponse:
    here = bridge()
    check_key(here.settings, keys_of(req))
    return as_json({"id": accept(here.storage, here.settings, event, body_of(req))}, status=202)


for _row in EVENTS:
    if _row.source == "pbx":
        serve(blueprint, func.AuthLevel.FUNCTION, _row.function, "POST", f"events/{_row.name}", partial(_receive, _row))
