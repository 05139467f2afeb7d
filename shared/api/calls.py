"""Reads calls, ended calls, a call with its events and deliveries, lost callers, and events from storage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import chain, islice
from typing import Any
from urllib.parse import unquote, urlsplit

from shared import people
from shared.api import lists, sheets
from shared.api.envelopes import CONTINUATION, DEFAULT_LIMIT, Page, paged, succeeded
from shared.api.operations import CALL
from shared.api.parameters import Request, check, fits
from shared.bridge import Bridge
from shared.calls import lost_callers, store
from shared.calls.stories import UNENDED
from shared.deliveries.outbox import Outbox
from shared.errors import NotFound, Unprocessable
from shared.events import store as events
from shared.events.event import IDENTIFIERS, row_envelope
from shared.pbx.operations import Operation
from shared.storage.account import Storage
from shared.storage.rows import value_of
from shared.subscriptions import Subscription, host_of, subscriptions
from shared.times import clock, iso, now

Item = dict[str, Any]

_PAGE = 1000
# Pages of a subject's events that a request reads if few events match.
_ROUNDS = 4
# Outcomes of incoming calls that no employee answered.
LOST = ("missed", "voicemail", "busy", "declined", "failed")
_SIDE_BY_SIDE = 8
# After this time the late events of a call, such as its voicemail, have arrived.
DELAY = timedelta(seconds=60)
_COLUMNS = (*(field.name for field in CALL if field.name != "lost"), "recordingUrls", "voicemailUrls")


def read(bridge: Bridge, row: Operation, request: Request) -> dict[str, Any] | sheets.File:
    """Return a page of matching calls, newest first, or all of them as a file; raises Refused."""
    if request.query.get("format", "json") == "json":
        return paged(bridge, row, request, _calls)
    values = check(row, request, zone=bridge.settings.time_zone, also=(CONTINUATION,))
    return sheets.listed(bridge, row, values, islice(_all(bridge, values), sheets.limit_of(values)))


def _all(bridge: Bridge, values: Mapping[str, Any]) -> Iterator[Item]:
    start: str | None = None
    while True:
        items, start = _calls(bridge, values, _PAGE, start)
        yield from items
        if start is None:
            return


def _calls(
    bridge: Bridge, values: Mapping[str, Any], limit: int, start: str | None = None
) -> tuple[list[Item], str | None]:
    """Return a page of matching calls, newest first, and the start of the next page."""
    storage, bounds = bridge.storage, {"first": values.get("from"), "last": values.get("to")}
    rows: Sequence[Mapping[str, Any]]
    if "number" in values or "employee" in values:
        number = people.number(values["number"], bridge.settings.default_region) if "number" in values else None
        subject = number or people.employee(values["employee"])
        pointers = people.find(storage, subject, ["call"], limit=limit + 1, start=start, **bounds)
        follows = pointers[limit].place if len(pointers) > limit else None
        rows = store.by_pointers(storage, pointers[:limit])
    else:
        # Table Storage applies these filters.
        conditions = [f"{name} eq '{values[name]}'" for name in ("direction", "outcome") if name in values]
        if values.get("lost") == "true":
            conditions.append("(" + " or ".join(f"outcome eq '{outcome}'" for outcome in LOST) + ")")
        where = " and ".join(conditions)
        rows, follows = store.newest(storage, limit=limit, start=start or "", where=where, select=_COLUMNS, **bounds)
    return [item for item in map(as_item, rows) if fits(bridge, item, values)], follows or None


def read_ended(bridge: Bridge, row: Operation, request: Request) -> Page:
    """Return the calls that ended after a state, or the newest ended calls; raises as `lists.answer` does."""
    values, until = check(row, request, also=lists.STATES), clock(now() - DELAY)

    def after(state: str, size: int) -> list[tuple[str, Item | None]]:
        ended = store.ended(bridge.storage, int(state), until, size)
        items = ((at, as_item(story) if story else None) for at, story in ended)
        return [(str(at), item if item and fits(bridge, item, values) else None) for at, item in items]

    def newest() -> Iterator[Item]:
        items, _ = _calls(bridge, values, values.get("limit", DEFAULT_LIMIT))
        return (item for item in items if item["outcome"] not in UNENDED)

    return lists.answer(row, request, values, present=lambda: str(until), after=after, newest=newest)


def read_one(bridge: Bridge, row: Operation, request: Request) -> dict[str, Any]:
    """Return a call with its events and their deliveries, as an envelope; raises as `whole_call`, and Invalid."""
    return succeeded(whole_call(bridge, check(row, request)["call_id"]))


def whole_call(bridge: Bridge, call_id: int) -> Item:
    """Return a call with its events and their deliveries, oldest first; raises NotFound or StorageUnavailable."""
    story = store.get(bridge.storage, call_id)
    if story is None:
        raise NotFound("no such call")
    newest_first, _ = _events(bridge, {"call_id": call_id}, _PAGE)
    return as_item(story) | {"events": newest_first[::-1], "deliveries": _deliveries(bridge, newest_first)}


def _deliveries(bridge: Bridge, listed: Sequence[Item]) -> list[Item]:
    """Return the deliveries of these events to today's subscribers, oldest first."""

    def sent(event: Item, subscription: Subscription) -> list[Item]:
        name = subscription.name or host_of(subscription.endpoint) or None
        item = {"event": event["id"], "type": event["type"], "subscription": subscription.id, "name": name}
        results = Outbox(bridge.storage, subscription.id).results(event["id"])
        return [
            item | {"result": row.get("result"), "attempts": row.get("attempts"), "time": iso(row["at"])}
            for row in results
        ]

    known = subscriptions(bridge).all()
    pairs = [(event, target) for event in listed for target in known if target.event == event["type"]]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        items = chain.from_iterable(pool.map(lambda pair: sent(*pair), pairs))
        return sorted(items, key=lambda item: item["time"])


def as_item(row: Mapping[str, Any]) -> Item:
    """Return a row of table `calls` as an item of the API."""
    item: Item = {field.name: value_of(row.get(field.name)) for field in CALL}
    for name in ("started", "connected", "ended"):
        item[name] = iso(row[name]) if row.get(name) else None
    item["lost"] = is_lost(row)
    item["contacts"] = [{"contactID": id} for id in json.loads(row.get("contacts") or "[]")]
    for name in ("recordings", "voicemails"):
        urls = json.loads(row.get(f"{name[:-1]}Urls") or "[]")
        blobs = ("/".join(unquote(urlsplit(url).path).split("/")[-4:]) for url in urls)
        # The name of a blob ends with the id of its recording or voicemail.
        names = {blob.rpartition("/")[2].partition(".")[0]: blob for blob in blobs}
        item[name] = [
            {"id": id, "container": name if str(id) in names else None, "blobName": names.get(str(id))}
            for id in json.loads(row.get(name) or "[]")
        ]
    return item


def is_lost(row: Mapping[str, Any]) -> bool:
    """Return True for an incoming call that no employee answered."""
    return row.get("outcome") in LOST and (row.get("direction") or "").lower() != "out"


def read_lost(bridge: Bridge, row: Operation, request: Request) -> dict[str, Any] | sheets.File:
    """Return the matching lost callers, as an envelope or as a file; raises Invalid, or StorageUnavailable."""
    values = check(row, request)
    known = map(_lost_item, lost_callers.listed(bridge.storage, all=values.get("open") != "true"))
    fitting = [item for item in known if fits(bridge, item, values)][values.get("offset", 0) :]
    return sheets.listed(bridge, row, values, fitting[: sheets.limit_of(values)])


def _lost_item(caller: lost_callers.LostCaller) -> dict[str, Any]:
    times = {"since": caller.since, "last_contact": caller.last, "closed": None if caller.open else caller.closed}
    return {
        "id": caller.id,
        "open": caller.open,
        "callerid": caller.callerid,
        "destination": caller.destination,
        "contact_name": caller.name,
        "attempts": caller.attempts,
        "note": caller.note,
        "contacts": [{"contactID": id} for id in caller.rung],
        **{name: iso(moment) if moment else None for name, moment in times.items()},
    }


def read_events(bridge: Bridge, row: Operation, request: Request) -> dict[str, Any]:
    """Return a page of the feed, newest first; raises Refused, or StorageUnavailable."""
    return paged(bridge, row, request, _events)


def _events(
    bridge: Bridge, values: Mapping[str, Any], limit: int, start: str | None = None
) -> tuple[list[Item], str | None]:
    """Return a page of matching events, newest first, and the start of the next page."""
    storage, first, last = bridge.storage, values.get("date_from"), values.get("date_to")
    # The call first, as it has fewer events than a number.
    if "call_id" in values:
        subject = people.call(values["call_id"])
    elif "number" in values:
        subject = people.number(values["number"], bridge.settings.default_region)
    else:
        where = f"type eq '{values['type']}'" if "type" in values else ""
        page, start = events.feed_page(storage, limit, first=first, last=last, start=start, where=where)
        return [event_item(storage, row) for row in page], start
    wanted = {name: values[name] for name in ("type", "number") if name in values}
    fitting: list[Mapping[str, Any]] = []
    for _ in range(_ROUNDS):
        rows, start = events.of_subject(storage, subject, limit, first=first, last=last, start=start)
        fitting += [row for row in rows if fits(bridge, row, wanted)]
        if start is None or len(fitting) >= limit:
            break
    if len(fitting) > limit:
        start = events.place(fitting[limit])
    return [event_item(storage, row) for row in fitting[:limit]], start


def event_item(storage: Storage, row: Mapping[str, Any]) -> Item:
    """Return an event's row as an item of the API; without its payload it has empty `data`, and `bodyMissing`."""
    item: Item = {"id": row["id"], "type": row["type"], "version": None}
    item |= {"origin": row["origin"], "received": iso(row["received"]), "happened": iso(row["happened"])}
    item |= {name: value_of(row[name]) for name in IDENTIFIERS if name in row}
    try:
        envelope = row_envelope(storage, row)
    except Unprocessable:
        return item | {"data": {}, "bodyMissing": True}
    version = envelope.get("version")
    item["version"] = str(version) if isinstance(version, str | int | float) else None
    return item | {"data": envelope["data"]}
