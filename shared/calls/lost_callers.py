"""
Table `lostcallers`: one row a pair of a caller and the number where nobody answered, and what happened to it last.

An event that has its own time (`last_contact`) is known by it. For one without, the row's log of the last events tells
a repeat from the next of its kind: two of a kind are one unless something between them, such as a removal between two
additions, makes them two. The PBX forgets all who wait at midnight and tells nobody: another day is another one.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from shared import people
from shared.calls import store as calls
from shared.people import Pointer
from shared.phones import e164
from shared.storage import rows
from shared.storage.expiry import expire_rows
from shared.times import now, parse_time, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from azure.data.tables import TableClient

    from shared.bridge import Bridge
    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Period

    Row = Mapping[str, Any]
    # When, of what kind, under which id, and whether the event has its own time.
    _Entry = list[Any]

TABLE = "lostcallers"
PARTITION = "lost"
ADDED, UPDATED, REMOVED = "LostCallerAdded", "LostCallerUpdated", "LostCallerRemoved"
_CLOSED = "closed"
# Whose midnight that is, is not documented: UTC's or that of a country around the Baltic Sea.
_OFFSETS = tuple(timedelta(hours=hours) for hours in (0, 1, 2, 3))
# What a table's integer column holds.
_MOST_ATTEMPTS = 2**31 - 1
# A try is a call that began shortly before; a pair may be called back on the next day.
_RANG, _WAITS = timedelta(minutes=10), timedelta(days=7)
_FEW = 20
# Events of one pair that are known one by one.
_REMEMBERED = 30
# The partition of marks of those who wait. One may be there a while before its row says so.
_WAITING, _OPENING = "waiting", timedelta(minutes=5)
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class LostCaller:
    """A caller whom nobody answered at a number: whether it waits, its tries, and the employees who were rung."""

    id: str
    callerid: str
    destination: str
    name: str | None = None
    open: bool = False
    since: datetime | None = None
    attempts: int | None = None
    first: datetime | None = None
    last: datetime | None = None
    openings: int = 0
    closed: datetime | None = None
    note: str | None = None
    rung: tuple[int, ...] = ()


def same_day(one: datetime, other: datetime) -> bool:
    """True if no midnight lies between two times, wherever it is counted."""
    return all((one + offset).date() == (other + offset).date() for offset in _OFFSETS)


def other_day(one: datetime, other: datetime) -> bool:
    """True if a midnight lies between two times, wherever it is counted."""
    return all((one + offset).date() != (other + offset).date() for offset in _OFFSETS)


def key(storage: Storage, callerid: str | None, destination: str | None, region: str) -> str:
    """Return the row key of a pair, the same in every spelling: a keyed hash."""
    pair = [e164(number, region) or (number or "").strip() for number in (callerid, destination)]
    return people.digest(storage, f"lost {json.dumps(pair)}")


def identified(bridge: Bridge, event: ReceivedEvent) -> ReceivedEvent:
    """
    Return the event under the id of the one that it repeats, if any, once the row of its pair has it.

    A message that is run again gets the same answer.
    """
    storage, region = bridge.storage, bridge.settings.default_region
    callerid, destination = (getattr(event.data, name, None) for name in ("callerid", "destination"))
    id, found = key(storage, callerid, destination, region), [event.id]
    day = event.received.replace(hour=0, minute=0, second=0, microsecond=0)
    said = {"callerid": callerid or "", "destination": destination or ""}
    subjects = {people.number(number, region) for number in said.values() if number} | people.loose(said, (), region)
    people.add(storage, [(subject, Pointer("lost", id, day)) for subject in subjects])
    said |= {"name": getattr(event.data, "contact_name", None)}
    rung = [] if event.type.name == REMOVED else _rung(storage, callerid, event, region)

    def by(row: rows.Row | None) -> Row:
        after, found[0] = _after(row or {}, event)
        known = json.loads(after.get("rung") or "[]")
        columns = {**after, **{name: text for name, text in said.items() if text is not None}}
        columns["rung"] = json.dumps(sorted({*known, *rung})[:_FEW]) if rung or known else None
        return {name: value for name, value in columns.items() if value is not None}

    if event.type.name != REMOVED:
        # First: a mark without one who waits is harmless.
        rows.put(storage.table(TABLE), {"PartitionKey": _WAITING, "RowKey": id, "at": now()})
    rows.change(storage.table(TABLE), PARTITION, id, by)
    return replace(event, id=found[0])


def _after(row: Row, event: ReceivedEvent) -> tuple[dict[str, Any], str]:
    """Return the columns after an event, and the id that the event has: its own, or that of the one it repeats."""
    log: list[_Entry] = json.loads(row.get("log") or "[]")
    name, tried = event.type.name, getattr(event.data, "last_contact", None)
    moment = min(tried or event.received, event.received)
    kind = name if name != UPDATED else f"{name} {getattr(event.data, 'attempts', None)}"
    entry = [stamp(moment), kind, event.id, tried is not None]
    known = next((one for one in log if one[2] == event.id or _repeats(entry, one, log)), None)
    id, log = (event.id, [*log, entry]) if known is None else (str(known[2]), log)
    after = {**row, "log": json.dumps(sorted(log)[-_REMEMBERED:]), "at": max(row.get("at", moment), moment)}
    heard = row.get("heard", event.received)
    if name == REMOVED:
        # One that was sent before the newest try leaves that one waiting.
        closed = max(row.get("closed") or event.received, event.received)
        return after | ({"open": False, "closed": closed} if event.received >= heard else {}), id
    after["heard"] = max(heard, event.received)
    if "at" in row and moment > row["at"] and not same_day(row["at"], moment):
        after |= {"open": False, "closed": None}
    if not after.get("open") and _opens(after, event, tried):
        after |= {"open": True, "since": moment, "first": moment, "last": moment, "attempts": None, "note": None}
        after |= {"openings": row.get("openings", 0) + 1, "rung": None}
    return _tried(after, event, tried), id


def _repeats(entry: _Entry, other: _Entry, log: Sequence[_Entry]) -> bool:
    """True for two of a kind on one day, not both with a time, where nothing between them makes them two."""
    (moment, kind, _, is_timed), (then, other_kind, _, was_timed) = entry, other
    if kind != other_kind or (is_timed and was_timed) or not same_day(parse_time(moment), parse_time(then)):
        return False
    first, last = sorted((moment, then))
    return not any(_parts(kind, one) for one in log if first < one[0] < last)


def _parts(kind: str, entry: _Entry) -> Any:
    is_end = entry[1] in (REMOVED, _CLOSED)
    return is_end if kind == ADDED else entry[1] == ADDED or (kind == REMOVED and not is_end and entry[3])


def _opens(row: Row, event: ReceivedEvent, tried: datetime | None) -> bool:
    """True if a caller who does not wait waits after a try: not after what happened before it was called back."""
    closed, last, is_added = row.get("closed"), row.get("last"), event.type.name == ADDED
    if closed is None:
        return True
    if tried is None or event.received <= closed:
        return is_added and event.received > closed
    # The PBX's clock may be behind ours: a later try than any before is a new one all the same.
    return tried > closed or (is_added and last is not None and tried > last)


def _tried(row: dict[str, Any], event: ReceivedEvent, tried: datetime | None) -> dict[str, Any]:
    attempts, last = getattr(event.data, "attempts", None), row.get("last")
    if tried is not None and last is not None and tried < last:
        return {**row, "first": min(row.get("first") or tried, tried)} if row.get("open") else row
    row = {**row, "last": tried or last or event.received}
    is_count = isinstance(attempts, int) and abs(attempts) <= _MOST_ATTEMPTS
    return {**row, "attempts": attempts} if is_count else row


def _rung(storage: Storage, callerid: str | None, event: ReceivedEvent, region: str) -> list[int]:
    """Return the employees whom the try rang, as far as its call is known by now."""
    if not callerid:
        return []
    first, last = event.moment - _RANG, event.moment + _RANG
    found = people.find(storage, people.number(callerid, region), ["call"], first=first, last=last, limit=_FEW)
    return sorted({id for row in calls.by_pointers(storage, found) for id in json.loads(row.get("contacts") or "[]")})


def close_answered(bridge: Bridge, event: ReceivedEvent) -> None:
    """Close what waits of a number once somebody talked to it, in either direction."""
    storage, region = bridge.storage, bridge.settings.default_region
    connected: datetime = event.data.callConnected  # type: ignore[attr-defined]
    is_out = (getattr(event.data, "direction", None) or "").lower() == "out"
    number = getattr(event.data, "destination", None) if is_out else event.caller
    if not number:
        return
    subject = people.number(number, region)
    found = people.find(storage, subject, ["lost"], first=connected - _WAITS, limit=_FEW)
    for id in {one.id for one in found}:
        row = rows.get(storage.table(TABLE), PARTITION, id)
        is_caller = row is not None and people.number(row.get("callerid"), region) == subject
        if row is not None and is_caller and row.get("open") and row["last"] < connected:
            close(storage, id, connected)


def close(storage: Storage, id: str, moment: datetime, note: str | None = None) -> bool:
    """Close a pair that waits, with a note of who did it and why; False where it does not wait."""

    def by(row: rows.Row | None) -> Row | None:
        if row is None or not row.get("open"):
            return None
        log = sorted([*json.loads(row["log"]), [stamp(moment), _CLOSED, "", True]])[-_REMEMBERED:]
        columns = {**row, "open": False, "closed": moment, "log": json.dumps(log)}
        return columns | ({"note": note} if note else {})

    return rows.change(storage.table(TABLE), PARTITION, id, by) is not None


def listed(storage: Storage, *, all: bool = False) -> list[LostCaller]:
    """Return those who wait, the latest try first; with `all` those who were called back too, after them."""
    table = storage.table(TABLE)
    if all:
        found = [_lost_caller(row) for row in table.query_entities(f"PartitionKey eq '{PARTITION}'")]
    else:
        marks = list(table.query_entities(f"PartitionKey eq '{_WAITING}'"))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = [one for one in pool.map(partial(_marked, table), marks) if one is not None]
    return sorted(found, key=lambda one: (one.open, one.last or one.closed), reverse=True)


def _marked(table: TableClient, mark: Any) -> LostCaller | None:
    """Return the one whom a mark leads to; the mark of one who waits no longer is removed."""
    row = rows.get(table, PARTITION, mark["RowKey"])
    if row is not None and row.get("open"):
        return _lost_caller(row)
    if mark["at"] < now() - _OPENING:
        rows.delete(table, _WAITING, mark["RowKey"], mark.metadata["etag"])
    return None


def get(storage: Storage, id: str) -> LostCaller | None:
    """Return the pair with a row key, or None."""
    row = rows.get(storage.table(TABLE), PARTITION, id)
    return _lost_caller(row) if row is not None else None


def _lost_caller(row: Row) -> LostCaller:
    names = ("name", "since", "attempts", "first", "last", "closed", "note")
    return LostCaller(
        id=row["RowKey"],
        callerid=row.get("callerid", ""),
        destination=row.get("destination", ""),
        open=bool(row.get("open")),
        openings=row.get("openings", 0),
        rung=tuple(json.loads(row.get("rung") or "[]")),
        **{name: row.get(name) for name in names},
    )


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the pairs whose last event came within a period, also those that nobody called back."""
    return expire_rows(storage.table(TABLE), period.condition("at"), allowance)
