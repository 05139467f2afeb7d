"""Lost callers over HTTP: callers whom nobody answered, those who still wait first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api import sheets
from shared.api.envelopes import succeeded
from shared.api.operations import GET_LOST_CALLERS, LOST_CALLER
from shared.api.parameters import Request, check
from shared.calls import lost_callers
from shared.phones import e164
from shared.storage.account import reaching_storage
from shared.times import iso

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.calls.lost_callers import LostCaller

DEFAULT_LIMIT = 50


def read(bridge: Bridge, given: Request) -> dict[str, Any] | sheets.File:
    """Return the lost callers that fit, as an envelope or as a file; raises Invalid, or StorageUnavailable."""
    values, region = check(GET_LOST_CALLERS, given), bridge.settings.default_region
    kind, begin = values.get("format", "json"), values.get("offset", 0)
    with reaching_storage():
        found = lost_callers.listed(bridge.storage, all=values.get("open") != "true")
    if "open" in values:
        found = [one for one in found if one.open == (values["open"] == "true")]
    if "number" in values:
        number = e164(values["number"], region) or values["number"]
        found = [one for one in found if (e164(one.callerid, region) or one.callerid) == number]
    limit = values.get("limit", DEFAULT_LIMIT if kind == "json" else None)
    items = [_item(one) for one in found[begin : begin + limit if limit else None]]
    return succeeded(items) if kind == "json" else sheets.written(bridge, items, LOST_CALLER, kind, "lost_callers")


def _item(one: LostCaller) -> dict[str, Any]:
    times = {"since": one.since, "last_contact": one.last, "closed": None if one.open else one.closed}
    return {
        "id": one.id,
        "open": one.open,
        "callerid": one.callerid,
        "destination": one.destination,
        "contact_name": one.name,
        "attempts": one.attempts,
        "note": one.note,
        "contacts": [{"contactID": id} for id in one.rung],
        **{name: iso(moment) if moment else None for name, moment in times.items()},
    }
