"""HTTP triggers that take the PBX's webhooks, one a row of the events table."""

from __future__ import annotations

import azure.functions as func

from functions.requests import body_of, keys_of
from functions.responses import answer, as_json
from shared.bridge import bridge
from shared.events.receive import accept
from shared.events.table import EVENTS, Event
from shared.webhooks.keys import check_key

blueprint = func.Blueprint()


def _register(event: Event) -> None:
    @blueprint.function_name(event.function)
    @blueprint.route(f"events/{event.name}", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    def receive(req: func.HttpRequest) -> func.HttpResponse:
        def work() -> func.HttpResponse:
            here = bridge()
            check_key(here.settings, keys_of(req))
            return as_json({"id": accept(here.storage, here.settings, event, body_of(req))}, status=202)

        return answer(work)


for _event in EVENTS:
    if _event.source == "pbx":
        _register(_event)
