"""
Table `lostcallers`: one row a pair of a caller and the number where nobody answered, and a copy while the caller waits.

A row has a log of its pair's tries, removals and closings. Its other columns follow from the log in the order of its
times, whatever the order of arrival. An event with its own time (`last_contact`) is known by it. An event without one
is known by its day and by how often the pair has waited on that day. The PBX forgets all who wait at midnight and tells
nobody: each day begins with nobody waiting.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from shared import people
from shared.bridge import Bridge
from shared.calls import store as calls
from shared.events.event import ReceivedEvent
from shared.people import Pointer
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.rows import Allowance, Period, delete_keys, expire_rows
from shared.times import local_day, parse_time, stamp
from shared.values import e164

Row = Mapping[str, Any]
# A try, a removal or a closing; its day and times are text.
Entry = dict[str, Any]
Log = dict[str, Entry]

TABLE = "lostcallers"
PARTITION = "lost"
ADDED, UPDATED, REMOVED = "LostCallerAdded", "LostCallerUpdated", "LostCallerRemoved"
_CLOSED = "closed"
# Whose midnight that is, is not documented: UTC's or that of a country around the Baltic Sea.
_OFFSETS = tuple(timedelta(hours=hours) for hours in (0, 1, 2, 3))
# A try is a call that began shortly before; a pair may be called back on the next day.
_RANG, _WAITS = timedelta(minutes=10), timedelta(days=7)
_FEW = 20
_LONGEST_LOG = 50
# The row keys of copies begin with it: those who wait are read without the others.
_WAITING = "waiting "


@dataclass(frozen=True, kw_only=True, slots=True)
class LostCaller:
    """A caller whom nobody answered at a number: whether it waits, its tries, and the employees who were rung."""

    id: str
    callerid: str = ""
    destination: str = ""
    name: str | None = None
    open: bool = False
    since: datetime | None = None
    attempts: int | None = None
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
    Return the event under the id of the one that it repeats, if any, once the log of its pair has it.

    A message that is run again gets the same answer.
    """
    storage, region, data = bridge.storage, bridge.settings.default_region, event.data
    pair = {"callerid": data.get("callerid") or "", "destination": data.get("destination") or ""}
    id = key(storage, pair["callerid"], pair["destination"], region)
    # One pointer a day, however often the caller tries.
    pointer = Pointer("lost", id, event.received.replace(hour=0, minute=0, second=0, microsecond=0))
    subjects = {people.number(number, region) for number in pair.values() if number} | people.loose(pair, (), region)
    people.add(storage, [(subject, pointer) for subject in subjects])
    moment = min(event.moment, event.received)
    entry = {
        "name": event.type.name,
        "day": local_day(moment, bridge.settings.time_zone).isoformat(),
        "at": stamp(event.received),
        "tried": stamp(data.moment) if data.moment else None,
        "attempts": data.get("attempts"),
        "rung": _rung(storage, pair["callerid"], event, region) if event.type.name != REMOVED else [],
    }

    def by(row: rows.Row | None) -> Row:
        log = _log(row)
        if row is not None and event.id in log:
            return row
        old: Row = row or {"at": moment}
        name, at = data.get("contact_name", old.get("name")), max(old["at"], moment)
        return {**_added(log, event.id, entry), **pair, "name": name, "at": at}

    row = rows.change(storage.table(TABLE), PARTITION, id, by, beside=_copied)
    return replace(event, id=_log(row)[event.id]["event"])


def _log(row: Row | None) -> Log:
    """Return the entries of a pair by the ids of their messages, in the order of arrival."""
    log: Log = json.loads(zlib.decompress(row["log"])) if row is not None else {}
    return log


def _added(log: Log, id: str, entry: Entry) -> dict[str, Any]:
    """Add an entry to a log, with the id of the event that it repeats, and return the columns that follow."""
    log[id] = entry
    row: dict[str, Any] = dict.fromkeys(("day", "since", "last", "closed", "attempts", "note")) | {"rung": []}
    for one in sorted(log.values(), key=lambda one: (one["day"], one["at"])):
        if one["day"] != row["day"]:
            row |= {"day": one["day"], "open": False, "openings": 0, "closed": None, "last": None}
        if one["name"] in (ADDED, UPDATED):
            _follow_try(row, one)
        else:
            row |= {"open": False, "closed": one["at"], "openings": max(row["openings"], 1)}
            row["note"] = one.get("note") or row["note"]
        one["occasion"] = [one["name"], one.get("attempts"), one.get("tried"), one["day"], row["openings"]]
    entry["event"] = next(one.get("event", id) for one in log.values() if one["occasion"] == entry["occasion"])
    row |= {name: parse_time(row[name]) for name in ("since", "last", "closed") if row[name]}
    row["attempts"] = rows.long(row["attempts"]) if row["attempts"] is not None else None
    kept = dict([*log.items()][-_LONGEST_LOG:])
    return row | {"rung": json.dumps(row["rung"]), "log": zlib.compress(json.dumps(kept).encode())}


def _follow_try(row: dict[str, Any], one: Entry) -> None:
    at, tried, closed, last, is_added = one["at"], one["tried"], row["closed"], row["last"], one["name"] == ADDED
    is_new = is_added or closed is None
    if tried and closed:
        # The PBX's clock may be behind ours: a later try than any before is a new one all the same.
        is_new = tried > closed or (is_added and last is not None and tried > last)
    if not row["open"] and is_new:
        row |= {"open": True, "openings": row["openings"] + 1, "since": min(tried or at, at)}
        row |= {"attempts": None, "note": None, "rung": []}
        last = None
    row["rung"] = sorted({*row["rung"], *one["rung"]})[:_FEW]
    if not (tried and last and tried < last):
        row["last"] = tried or last or at
        row["attempts"] = row["attempts"] if one["attempts"] is None else one["attempts"]
    elif row["open"]:
        row["since"] = min(row["since"], tried)


def _rung(storage: Storage, callerid: str | None, event: ReceivedEvent, region: str) -> list[int]:
    """Return the employees whom the try rang, as far as its call is known by now."""
    if not callerid:
        return []
    first, last = event.moment - _RANG, event.moment + _RANG
    found = people.find(storage, people.number(callerid, region), ["call"], first=first, last=last, limit=_FEW)
    return sorted({id for row in calls.by_pointers(storage, found) for id in json.loads(row.get("contacts") or "[]")})


def close_answered(bridge: Bridge, event: ReceivedEvent) -> None:
    """Close the lost callers of a number after an answered call with it, in either direction."""
    storage, region = bridge.storage, bridge.settings.default_region
    connected = event.data.get("callConnected") if event.type.name == "CallCompleted" else None
    is_out = event.data.get("direction", "").lower() == "out"
    number = event.data.get("destination") if is_out else event.caller
    if not number or connected is None:
        return
    subject = people.number(number, region)
    found = people.find(storage, subject, ["lost"], first=connected - _WAITS, limit=_FEW)
    for id in {one.id for one in found}:
        one = get(storage, id)
        if one and one.open and people.number(one.callerid, region) == subject and one.last and one.last < connected:
            close(storage, id, connected)


def close(storage: Storage, id: str, moment: datetime, note: str | None = None) -> bool:
    """Close a pair that waits, with a note of who did it and why; False where it does not wait."""
    name = f"closed {stamp(moment)}"

    def by(row: rows.Row | None) -> Row | None:
        log = _log(row)
        # A write whose answer was lost has closed it at this very moment.
        if row is None or name in log:
            return row
        if not row["open"]:
            return None
        entry = {"name": name, "at": stamp(moment), "day": max(one["day"] for one in log.values()), "note": note}
        return {**row, **_added(log, name, entry)}

    written = rows.change(storage.table(TABLE), PARTITION, id, by, beside=_copied)
    return written is not None and not written["open"]


def _copied(old: Row | None, new: Row) -> list[tuple[Any, ...]]:
    """Return the operations that write or delete the copy of a row."""
    key = {"PartitionKey": PARTITION, "RowKey": f"{_WAITING}{new['RowKey']}"}
    if new.get("open"):
        return [("upsert", {**new, **key}, {"mode": "replace"})]
    return [("delete", key)] if old is not None and old.get("open") else []


def remove(storage: Storage, id: str) -> None:
    """Delete a pair's row, with its copy."""
    keys = [{"PartitionKey": PARTITION, "RowKey": key} for key in (id, f"{_WAITING}{id}")]
    delete_keys(storage.table(TABLE), keys)


def listed(storage: Storage, *, all: bool = False) -> list[LostCaller]:
    """Return those who wait, the latest try first; with `all` those who were called back too, after them."""
    # Row keys are hexadecimal: copies come behind them.
    keys = f"RowKey {'lt' if all else 'ge'} '{_WAITING}'"
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}' and {keys}")
    return sorted(map(_lost_caller, found), key=lambda one: (one.open, one.last or one.closed), reverse=True)


def get(storage: Storage, id: str) -> LostCaller | None:
    """Return the pair with a row key, or None."""
    row = rows.get(storage.table(TABLE), PARTITION, id)
    return _lost_caller(row) if row is not None else None


def _lost_caller(row: Row) -> LostCaller:
    columns = {field.name: rows.value_of(row[field.name]) for field in fields(LostCaller) if field.name in row}
    columns |= {"id": row["RowKey"].removeprefix(_WAITING), "rung": tuple(json.loads(row.get("rung") or "[]"))}
    return LostCaller(**columns)


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the pairs whose last event came within a period, also those that nobody called back."""
    return expire_rows(storage.table(TABLE), period.condition("at"), allowance)
