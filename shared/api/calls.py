"""Calls as people mean them: a list of their stories with filters, newest first, and one with all that happened."""

from __future__ import annotations

import base64
import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from shared import people
from shared.api import feed, sheets
from shared.api.envelopes import succeeded
from shared.api.parameters import Given, check
from shared.calls import store
from shared.errors import NotFound, WrongContinuation
from shared.pbx.fields import Field, Shape
from shared.pbx.operations import Operation, Parameter
from shared.storage.account import reaching_storage
from shared.storage.rows import value_of
from shared.times import bare_date, day_bounds, iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.bridge import Bridge

    Item = dict[str, Any]

CONTINUATION = "continuation"
DEFAULT_LIMIT = 50
_PAGE = 1000
_KINDS: tuple[people.Kind, ...] = ("call",)
_POSITION = re.compile(r"[0-9]{16,20}(-[0-9]{20})?", re.ASCII)
# Nobody of ours answered these incoming calls.
LOST = ("missed", "voicemail", "busy", "declined", "failed")
OUTCOMES: Mapping[str, str] = {
    "answered": "somebody answered, and the call is over",
    "missed": "an incoming call that nobody answered",
    "voicemail": "nobody answered, and the caller left a voicemail",
    "unanswered": "an outgoing call that was not answered",
    "ringing": "it rings as far as is known",
    "talking": "they talk as far as is known",
    "unknown": "its end never became known",
}
_IDS = Field("contactID", "integer", "Unique ID of the employee.")
STORED: Shape = (
    Field("id", "integer", "Unique ID of the recording or voicemail."),
    Field("container", "string", "Container of the audio, for Get stored audio; absent until it is stored."),
    Field("blobName", "string", "Name of the audio in its container."),
)
CALL: Shape = (
    Field("callID", "integer", "Unique ID of the call."),
    Field("started", "date-time", "When it started to ring."),
    Field("connected", "date-time", "When somebody answered; absent when nobody did."),
    Field("ended", "date-time", "When it ended."),
    Field("talkSeconds", "integer", "How long they talked."),
    Field(
        "outcome", "string", "How it ended: " + "; ".join(f"{name}, {text}" for name, text in OUTCOMES.items()) + "."
    ),
    Field("lost", "boolean", "True for an incoming call that nobody of the company answered."),
    Field("direction", "string", "in or out."),
    Field("caller", "string", "Number that called, as the PBX sent it; absent when withheld."),
    Field("callerE164", "string", "The same in E.164, where it is a number."),
    Field("destination", "string", "Number that was called, as the PBX sent it."),
    Field("destinationE164", "string", "The same in E.164, where it is a number."),
    Field("answeredBy", "integer", "Unique ID of the employee who answered."),
    Field("contacts", "array", "Employees whom the call rang or reached.", (_IDS,)),
    Field("recordings", "array", "The call's recordings.", STORED),
    Field("voicemails", "array", "The call's voicemails.", STORED),
)
_ID = Parameter("call_id", "Call ID", "Unique ID of the call.", where="path", required=True, visibility="")
FILTERS = (
    Parameter("number", "Number", "Only calls from or to this number, in any spelling.", type="string"),
    Parameter("employee", "Employee", "Only calls that rang or reached this employee."),
    Parameter(
        "direction", "Direction", "in for incoming calls, out for outgoing ones.", type="string", choices=("in", "out")
    ),
    Parameter("outcome", "Outcome", "Only calls that ended so.", type="string", choices=tuple(OUTCOMES)),
    Parameter(
        "lost", "Lost", "true for incoming calls that nobody answered, false for all others.", type="string",
        choices=("true", "false"),
    ),
)  # fmt: skip
GET_CALLS = Operation(
    id="GetCalls",
    path="calls",
    parameters=(
        Parameter(
            "from", "From", "Only calls that began on or after this date, or at or after this time.", type="date-time"
        ),
        Parameter(
            "to", "To", "Only calls that began up to the end of this date, or before this time.", type="date-time"
        ),
        *FILTERS,
        Parameter("limit", "Limit", "Number of calls to return at most."),
        sheets.FORMAT,
    ),
    summary="List calls",
    description="Lists calls with their outcome, newest first, paged.",
    lists=True,
    item=CALL,
)
GET_CALL = Operation(
    id="GetCall",
    path="calls/{call_id}",
    parameters=(_ID,),
    summary="Get call",
    description="Returns one call with its events in order and its audio.",
    item=(*CALL, Field("events", "array", "What happened, oldest first.", feed.ITEM)),
)
NAMES = tuple(parameter.name for parameter in GET_CALLS.parameters)
_COLUMNS = (*(field.name for field in CALL if field.name != "lost"), "recordingUrls", "voicemailUrls")


def read(bridge: Bridge, given: Given) -> dict[str, Any]:
    """
    Return a part of the calls that fit, newest first, with `continuation` beside `data`: null at the end.

    A part may come short with a continuation: then there is more to look at. Raises Invalid, or StorageUnavailable.
    """
    values = wanted(bridge, given)
    start = position(given.query.get(CONTINUATION))
    found, following = part(bridge, values, limit=values.get("limit", DEFAULT_LIMIT), start=start)
    return succeeded(found) | {CONTINUATION: token(following)}


def sheet(bridge: Bridge, given: Given) -> sheets.File | None:
    """Return all calls that fit as a file, up to a hundred thousand; None where JSON is asked for. Raises Invalid."""
    values = wanted(bridge, given)
    kind = values.pop("format", "json")
    found = islice(every(bridge, values), values.get("limit"))
    return None if kind == "json" else sheets.written(bridge, found, CALL, kind, "calls")


def read_one(bridge: Bridge, given: Given) -> dict[str, Any]:
    """Return one call with its events, as an envelope; raises Invalid, NotFound or StorageUnavailable."""
    return succeeded(one(bridge, check(GET_CALL, given)["call_id"]))


def wanted(bridge: Bridge, given: Given) -> dict[str, Any]:
    """Return the filters of a request; a date is its whole day in TIME_ZONE. Raises Invalid."""
    values, zone = check(GET_CALLS, given), bridge.settings.time_zone
    for name, side in (("from", 0), ("to", 1)):
        if (day := bare_date(given.query.get(name, ""))) is not None:
            values[name] = day_bounds(day, zone)[side]
    return values


def part(bridge: Bridge, values: Mapping[str, Any], *, limit: int, start: str = "") -> tuple[list[Item], str]:
    """Return calls that fit, newest first, at most `limit`, and the position of the next part; empty at the end."""
    with reaching_storage():
        if "number" in values or "employee" in values:
            return _of_person(bridge, values, limit, start)
        found, following = store.newest(
            bridge.storage,
            first=values.get("from"),
            last=values.get("to"),
            limit=limit,
            start=start,
            where=_where(values),
            select=_COLUMNS,
        )
    return [item for item in map(as_item, found) if fits(item, values)], following


def every(bridge: Bridge, values: Mapping[str, Any]) -> Iterator[Item]:
    """Return all calls that fit, newest first, read a thousand at a time."""
    following = ""
    while True:
        found, following = part(bridge, values, limit=_PAGE, start=following)
        yield from found
        if not following:
            return


def one(bridge: Bridge, call_id: int) -> Item:
    """Return a call with its events, oldest first; raises NotFound or StorageUnavailable."""
    with reaching_storage():
        found = store.get(bridge.storage, call_id)
    if found is None:
        raise NotFound("no such call")
    events = feed.read(bridge, Given(query={"call_id": str(call_id), "limit": "1000"}))["data"]
    return as_item(found) | {"events": events[::-1]}


def _of_person(bridge: Bridge, values: Mapping[str, Any], limit: int, start: str) -> tuple[list[Item], str]:
    """Look calls up by the index of numbers and employees, and keep those that fit."""
    if "number" in values:
        subject = people.number(values["number"], bridge.settings.default_region)
    else:
        subject = people.employee(values["employee"])
    first, last = values.get("from"), values.get("to")
    found = people.find(bridge.storage, subject, _KINDS, limit=limit + 1, start=start or None, first=first, last=last)
    following = found[limit].place if len(found) > limit else ""
    items = map(as_item, store.by_pointers(bridge.storage, found[:limit]))
    return [item for item in items if fits(item, values)], following


def fits(item: Item, values: Mapping[str, Any]) -> bool:
    """True if a call is what these filters ask for; numbers are compared by whoever looked them up."""
    employee, lost = values.get("employee"), values.get("lost")
    started = parse_time(item["started"]) if item["started"] else None
    return (
        (employee is None or any(contact["contactID"] == employee for contact in item["contacts"]))
        and values.get("direction") in (None, (item["direction"] or "").lower())
        and values.get("outcome") in (None, item["outcome"])
        and (lost is None or item["lost"] == (lost == "true"))
        and ("from" not in values or (started is not None and started >= values["from"]))
        and ("to" not in values or (started is not None and started < values["to"]))
    )


def _where(values: Mapping[str, Any]) -> str:
    """Return the filters that the table service can apply."""
    conditions = [f"{name} eq '{values[name]}'" for name in ("direction", "outcome") if name in values]
    if values.get("lost") == "true":
        conditions.append("(" + " or ".join(f"outcome eq '{outcome}'" for outcome in LOST) + ")")
    return " and ".join(conditions)


def as_item(row: Mapping[str, Any]) -> Item:
    """Return a call as it is listed."""
    item: Item = {name: value_of(row.get(name)) for name in (field.name for field in CALL)}
    for name in ("started", "connected", "ended"):
        item[name] = iso(row[name]) if row.get(name) else None
    item["lost"] = is_lost(row)
    item["contacts"] = [{"contactID": id} for id in json.loads(row.get("contacts") or "[]")]
    for name, container in (("recordings", "recordings"), ("voicemails", "voicemails")):
        urls = json.loads(row.get(f"{name[:-1]}Urls") or "[]")
        item[name] = stored(json.loads(row.get(name) or "[]"), container, urls)
    return item


def is_lost(row: Mapping[str, Any]) -> bool:
    """True for an incoming call that nobody answered."""
    return row.get("outcome") in LOST and (row.get("direction") or "").lower() != "out"


def stored(ids: Sequence[int], container: str, urls: Sequence[str]) -> list[Item]:
    """Return recordings or voicemails with the names of their blobs, which end with their ids."""
    blobs = ("/".join(unquote(urlsplit(url).path).split("/")[-4:]) for url in urls)
    names = {name.rpartition("/")[2].partition(".")[0]: name for name in blobs}
    return [
        {"id": id, "container": container if str(id) in names else None, "blobName": names.get(str(id))} for id in ids
    ]


def token(following: str) -> str | None:
    """Return the continuation for a position; None at the end."""
    return base64.urlsafe_b64encode(following.encode()).decode().rstrip("=") if following else None


def position(continuation: str | None) -> str:
    """Return the position that a continuation stands for; raises WrongContinuation."""
    if not continuation:
        return ""
    try:
        text = base64.urlsafe_b64decode(continuation.encode() + b"=" * (-len(continuation) % 4)).decode()
    except ValueError:
        text = ""
    if not _POSITION.fullmatch(text):
        raise WrongContinuation("not one of ours")
    return text
