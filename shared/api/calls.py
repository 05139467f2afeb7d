"""Calls as people mean them: a list of their stories with filters, newest first, and one with all that happened."""

from __future__ import annotations

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode, urlsplit

from shared import people
from shared.api import feed, sheets
from shared.api.envelopes import succeeded
from shared.api.lists import IDLE_SECONDS, STATE, TRIGGER_STATE, Page, state_of
from shared.api.operations import CALL, GET_CALL, GET_CALLS, GET_ENDED_CALLS
from shared.api.parameters import Request, check
from shared.calls import store
from shared.calls.stories import UNENDED
from shared.deliveries.outbox import Outbox
from shared.errors import INVALID_CONTINUATION, NotFound, Refused
from shared.phones import e164
from shared.storage.account import reaching_storage
from shared.storage.rows import value_of
from shared.subscriptions.endpoints import host_of
from shared.subscriptions.store import subscriptions
from shared.times import bare_date, clock, day_bounds, iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.bridge import Bridge
    from shared.subscriptions.subscription import Subscription

    Item = dict[str, Any]

CONTINUATION = "continuation"
DEFAULT_LIMIT = 50
_PAGE = 1000
_KINDS: tuple[people.Kind, ...] = ("call",)
_POSITION = re.compile(r"[0-9]{16,20}(-[0-9]{20})?", re.ASCII)
# Nobody of ours answered these incoming calls.
LOST = ("missed", "voicemail", "busy", "declined", "failed")
_SIDE_BY_SIDE = 8
NAMES = tuple(parameter.name for parameter in GET_CALLS.parameters)
# Late events of a call that is over, such as its voicemail, have come by then.
SETTLE = timedelta(seconds=60)
_COLUMNS = (*(field.name for field in CALL if field.name != "lost"), "recordingUrls", "voicemailUrls")


def read(bridge: Bridge, given: Request) -> dict[str, Any] | sheets.File:
    """
    Return a part of the calls that fit, newest first, with `continuation` beside `data`: null at the end.

    A part may come short with a continuation: then there is more to look at. As a file, all of them are returned, up
    to a hundred thousand. Raises Refused, or StorageUnavailable.
    """
    values = wanted(bridge, given)
    kind = values.get("format", "json")
    if kind != "json":
        found = islice(every(bridge, values), values.get("limit"))
        return sheets.written(bridge, found, CALL, kind, "calls")
    start = position(given.query.get(CONTINUATION))
    items, following = part(bridge, values, limit=values.get("limit", DEFAULT_LIMIT), start=start)
    return succeeded(items) | {CONTINUATION: token(following)}


def read_one(bridge: Bridge, given: Request) -> dict[str, Any]:
    """Return one call with its events, as an envelope; raises Invalid, NotFound or StorageUnavailable."""
    return succeeded(one(bridge, check(GET_CALL, given)["call_id"]))


def wanted(bridge: Bridge, given: Request) -> dict[str, Any]:
    """Return the filters of a request; a date is its whole day in TIME_ZONE. Raises Invalid."""
    values, zone = check(GET_CALLS, given, also=(CONTINUATION,)), bridge.settings.time_zone
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
    items = map(as_item, found)
    return [item for item in items if fits(item, values, bridge.settings.default_region)], following


def every(bridge: Bridge, values: Mapping[str, Any]) -> Iterator[Item]:
    """Return all calls that fit, newest first, read a thousand at a time."""
    following = ""
    while True:
        found, following = part(bridge, values, limit=_PAGE, start=following)
        yield from found
        if not following:
            return


def ended(bridge: Bridge, given: Request, base: str) -> Page:
    """
    Return the calls that are over since a `state`, in that order, or the newest ones without a state.

    With `triggerState`, return one at a time by Logic Apps' polling contract; `base` is what its Location begins with.
    Raises Invalid, or StorageUnavailable.
    """
    values = check(GET_ENDED_CALLS, given, also=(STATE, TRIGGER_STATE))
    states = {name: state_of(name, given.query[name]) for name in (STATE, TRIGGER_STATE) if name in given.query}
    until = clock(now() - SETTLE)
    if TRIGGER_STATE in states:
        return _next_ended(bridge, given, values, until, f"{base}/api/v2/{GET_ENDED_CALLS.path}")
    limit = values.pop("limit", _PAGE if STATE in states else DEFAULT_LIMIT)
    found: list[Item] = []
    after = int(states.get(STATE) or until)
    if STATE not in states:
        found = [item for item in part(bridge, values, limit=limit)[0] if item["outcome"] not in UNENDED]
    else:
        for at, item in _ended(bridge, values, after, until):
            after = at
            if item is not None:
                found.append(item)
            if len(found) == limit:
                break
    return Page(body=succeeded(found) | {STATE: str(after)})


def _next_ended(bridge: Bridge, given: Request, values: Mapping[str, Any], until: int, url: str) -> Page:
    state = int(state_of(TRIGGER_STATE, given.query[TRIGGER_STATE]) or until)
    found: list[Item] = []
    for at, item in _ended(bridge, values, state, until):
        state = at
        if item is not None:
            found.append(item)
            break
    kept = {row.name: given.query[row.name] for row in GET_ENDED_CALLS.parameters if given.query.get(row.name)}
    query = urlencode(kept | {TRIGGER_STATE: str(state)})
    headers = {"Location": f"{url}?{query}", "Retry-After": "0" if found else str(IDLE_SECONDS)}
    status = 200 if found else 202
    return Page(body=succeeded(found, status), status=status, headers=headers)


def _ended(bridge: Bridge, values: Mapping[str, Any], after: int, until: int) -> Iterator[tuple[int, Item | None]]:
    """Return the times of calls that are over, each with the call where it fits."""
    with reaching_storage():
        found = store.ended(bridge.storage, after, until, _PAGE)
    for at, row in found:
        item = as_item(row)
        yield at, item if fits(item, values, bridge.settings.default_region) else None


def one(bridge: Bridge, call_id: int) -> Item:
    """Return a call with its events and their deliveries, oldest first; raises NotFound or StorageUnavailable."""
    with reaching_storage():
        found = store.get(bridge.storage, call_id)
    if found is None:
        raise NotFound("no such call")
    events = feed.read(bridge, Request(query={"call_id": str(call_id), "limit": "1000"}))["data"]
    return as_item(found) | {"events": events[::-1], "deliveries": _deliveries(bridge, events)}


def _deliveries(bridge: Bridge, events: Sequence[Item]) -> list[Item]:
    """Return what today's subscribers were sent of these events, oldest first."""
    with reaching_storage(), ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        everybody = subscriptions(bridge).all()
        pairs = [(event, one) for event in events for one in everybody if one.event == event["type"]]
        found = [item for items in pool.map(lambda pair: _sent(bridge, *pair), pairs) for item in items]
    return sorted(found, key=lambda item: item["time"])


def _sent(bridge: Bridge, event: Item, one: Subscription) -> list[Item]:
    name = one.name or host_of(one.endpoint)
    item = {"event": event["id"], "type": event["type"], "subscription": one.id, "name": name or None}
    return [
        item | {"result": row.get("result"), "attempts": row.get("attempts"), "time": iso(row["at"])}
        for row in Outbox(bridge.storage, one.id).results(event["id"])
    ]


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
    return [item for item in items if fits(item, values, bridge.settings.default_region)], following


def fits(item: Item, values: Mapping[str, Any], region: str) -> bool:
    """True if a call is what these filters ask for."""
    employee, lost, number = values.get("employee"), values.get("lost"), values.get("number")
    started = parse_time(item["started"]) if item["started"] else None
    return (
        (employee is None or any(contact["contactID"] == employee for contact in item["contacts"]))
        and (number is None or _has(item, number, region))
        and values.get("direction") in (None, (item["direction"] or "").lower())
        and values.get("outcome") in (None, item["outcome"])
        and (lost is None or item["lost"] == (lost == "true"))
        and ("from" not in values or (started is not None and started >= values["from"]))
        and ("to" not in values or (started is not None and started < values["to"]))
    )


def _has(item: Item, number: str, region: str) -> bool:
    full = e164(number, region)
    return any((item[f"{side}E164"] or item[side]) == (full or number) for side in ("caller", "destination"))


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
    """Return the position that a continuation stands for; raises Refused for any other text."""
    if continuation is None:
        return ""
    try:
        text = base64.urlsafe_b64decode(continuation.encode() + b"=" * (-len(continuation) % 4)).decode()
    except ValueError:
        text = ""
    if not _POSITION.fullmatch(text):
        raise Refused(INVALID_CONTINUATION)
    return text
