"""HTTP triggers that receive the PBX's webhooks: one a row of the events table, one for other spellings."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from functools import partial

import azure.functions as func

from functions.requests import body_of, keys_of
from functions.responses import as_json, register
from shared.bridge import bridge
from shared.errors import WRONG_KEY, Invalid, Refused
from shared.events.event import accept
from shared.events.table import EVENTS, Event, find_event
from shared.settings import Settings

blueprint = func.Blueprint()

_ROWS = tuple(row for row in EVENTS if row.source == "pbx")
_NAMES = tuple(row.name for row in _ROWS)
# The app checks the key itself, and accepts no key of the host.
_OPEN = func.AuthLevel.ANONYMOUS


def check_key(settings: Settings, sent: Iterable[str]) -> None:
    """
    Raise Refused unless one of the keys is PBX_WEBHOOK_KEY or PBX_WEBHOOK_KEY_PREVIOUS, in constant time.

    The host opens the receivers to every host key; those belong to flows and other programs, which may not speak for
    the PBX. Where neither is set anybody may: on a laptop only, in Azure the settings are invalid then.
    """
    wanted = [key.encode() for key in (settings.pbx_webhook_key, settings.pbx_webhook_key_previous) if key]
    right = [hmac.compare_digest(key, one.encode(errors="replace")) for one in sent for key in wanted]
    if wanted and not any(right):
        raise Refused(WRONG_KEY)


def _receive(event: Event, req: func.HttpRequest) -> func.HttpResponse:
    here = bridge()
    check_key(here.settings, keys_of(req))
    return as_json({"id": accept(bridge(), event, body_of(req))}, status=202)


def _receive_other(req: func.HttpRequest) -> func.HttpResponse:
    check_key(bridge().settings, keys_of(req))
    event = find_event(req.route_params["event"])
    if event not in _ROWS:
        raise Invalid({"event": f"one of {', '.join(_NAMES)} is expected"})
    return _receive(event, req)


for _row in _ROWS:
    register(blueprint, _OPEN, f"On{_row.name}", "POST", f"events/{_row.name}", partial(_receive, _row))
# Only what none of the others is for: the host knows no precedence of routes.
_OTHER = f"events/{{event:regex(^(?!({'|'.join(_NAMES)})$))}}"
register(blueprint, _OPEN, "ReceiveEvent", "POST", _OTHER, _receive_other)
