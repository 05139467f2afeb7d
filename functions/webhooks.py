"""HTTP triggers that receive the PBX's webhooks: one for each event, one for other spellings of their names."""

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

    The app checks these keys because the host would accept every host key, and flows with such a key must not post
    events. Without both settings every request is accepted; in Azure the app does not start then.
    """
    accepted = [key.encode() for key in (settings.pbx_webhook_key, settings.pbx_webhook_key_previous) if key]
    matches = [hmac.compare_digest(key, other.encode(errors="replace")) for other in sent for key in accepted]
    if accepted and not any(matches):
        raise Refused(WRONG_KEY)


def _receive(event: Event, req: func.HttpRequest) -> func.HttpResponse:
    check_key(bridge().settings, keys_of(req))
    return as_json({"id": accept(bridge(), event, body_of(req))}, status=202)


def _receive_other(req: func.HttpRequest) -> func.HttpResponse:
    check_key(bridge().settings, keys_of(req))
    event = find_event(req.route_params["event"])
    if event not in _ROWS:
        raise Invalid({"event": f"one of {', '.join(_NAMES)} is expected"})
    return _receive(event, req)


for _row in _ROWS:
    register(blueprint, _OPEN, f"On{_row.name}", "POST", f"events/{_row.name}", partial(_receive, _row))
# All other names: the host has no precedence of routes.
_OTHER = f"events/{{event:regex(^(?!({'|'.join(_NAMES)})$))}}"
register(blueprint, _OPEN, "ReceiveEvent", "POST", _OTHER, _receive_other)
