"""Lost callers over HTTP: callers whom nobody answered, those who still wait first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api import sheets
from shared.api.envelopes import succeeded
from shared.api.parameters import Request, check
from shared.calls import lost_callers
from shared.pbx.fields import Field, Shape
from shared.pbx.operations import Operation, Parameter
from shared.phones import e164
from shared.storage.account import reaching_storage
from shared.times import iso

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.calls.lost_callers import LostCaller

DEFAULT_LIMIT = 50
LOST_CALLER: Shape = (
    Field("id", "string", "ID of the caller at this number."),
    Field("open", "boolean", "True while the caller waits to be called back."),
    Field("callerid", "string", "Number that called."),
    Field("destination", "string", "Number that was called."),
    Field("contact_name", "string", "Name of the caller where the PBX knows it."),
    Field("attempts", "integer", "How many times the caller has tried."),
    Field("since", "date-time", "Since when the caller waits, or waited."),
    Field("last_contact", "date-time", "When the caller tried last."),
    Field("closed", "date-time", "When the caller was called back, got through, or was closed by hand."),
    Field("note", "string", "Who closed it by hand, and why."),
    Field(
        "contacts", "array", "Employees who were rung.", (Field("contactID", "integer", "Unique ID of the employee."),)
    ),
)
GET_LOST_CALLERS = Operation(
    id="GetLostCallers",
    path="lost_callers",
    parameters=(
        Parameter("number", "Number", "Only this caller, in any spelling.", type="string"),
        Parameter(
            "open", "Open", "true for callers who wait, false for all others.", type="string", choices=("true", "false")
        ),
        Parameter("limit", "Limit", "Number of lost callers to return at most."),
        Parameter("offset", "Offset", "How many to skip."),
        sheets.FORMAT,
    ),
    summary="List lost callers",
    description="Lists callers whom nobody answered: those who still wait first, then those who were called back.",
    lists=True,
    item=LOST_CALLER,
)


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
