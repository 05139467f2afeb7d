"""
Table `lostcallers`: one row for each pair of caller and unanswered number, and a copy of it while the caller waits.

A row has a log of its pair's tries, removals and closings. Its other columns are computed from the log in the order of
its times, whatever the order of arrival. An event is identified by its own time (`last_contact`) or, without one, by
its day and the number of times that the pair has waited that day. A LostCallerAdded that is not after the last try of
its wait repeats the known one. At midnight the PBX forgets all callers without an event: each day begins with none.
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
# A try, a removal or a closing; its day and times are text. The oldest entry of a cut log has the `row` up to it.
Entry = dict[str, Any]
Log = dict[str, Entry]

TABLE = "lostcallers"
PARTITION = "lost"
ADDED, UPDATED, REMOVED = "LostCallerAdded", "LostCallerUpdated", "LostCallerRemoved"
# The time zone of this midnight is not documented: UTC, or that of a country around the Baltic Sea.
_OFFSETS = tuple(timedelta(hours=hours) for hours in (0, 1, 2, 3))
# The longest time between a try and its call, and between a pair's last event and the answered call that closes it.
_RANG, _WAITS = timedelta(minutes=10), timedelta(days=7)
_FEW = 20
_LONGEST_LOG = 50
# Prefix of the copies' row keys, so that waiting callers are read without the others.
_WAITING = "waiting "


@dataclass(frozen=True, kw_only=True, slots=True)
class LostCaller:
    """A caller whom nobody answered at a number; `open` while the caller waits, with the employees who were rung."""

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


def same_day(one: datetime, other: datetime) -> bool | None:
    """Return True if two times are on the same day in every possible time zone, False if in none, else None."""
    found = {(one + offset).date() == (other + offset).date() for offset in _OFFSETS}
    return found.pop() if len(found) == 1 else None


def key(storage: Storage, callerid: str | None, destination: str | None, region: str) -> str:
    """Return the row key of a pair, the same in every spelling: a keyed hash."""
    pair = [e164(number, region) or (number or "").strip() for number in (callerid, destination)]
    return people.digest(storage, f"lost {json.dumps(pair)}")


def identified(bridge: Bridge, event: ReceivedEvent) -> ReceivedEvent:
    """
    Add an event to the log of its pair; return it, under the id of the event that it repeats if there is one.

    A message that is run again gets the same id.
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
    return dict(json.loads(zlib.decompress(row["log"]))) if row is not None else {}


def _added(log: Log, id: str, entry: Entry) -> dict[str, Any]:
    """Add an entry to a log, with the id of the event that it repeats, and return the new columns of the row."""
    log[id] = entry
    kept = dict([*log.items()][-_LONGEST_LOG:])
    oldest = next(iter(kept.values()))
    row: dict[str, Any] = dict.fromkeys(("day", "since", "last", "closed", "attempts", "note")) | {"rung": []}
    for each in sorted(log.values(), key=lambda each: (each["day"], each["at"])):
        if "row" in each:
            row |= each["row"]
            continue
        if each["day"] != row["day"]:
            # `before` is the end of the previous wait, `added` the occasion of this wait's LostCallerAdded.
            row |= {"day": each["day"], "open": False, "openings": 0}
            row |= dict.fromkeys(("closed", "last", "before", "added"))
        is_try = each["name"] in (ADDED, UPDATED)
        is_late = is_try and _follow_try(row, each)
        if not is_try:
            row |= {"open": False, "closed": each["at"], "openings": max(row["openings"], 1)}
            row["note"] = each.get("note") or row["note"]
        each["occasion"] = [each["name"], each.get("attempts"), each.get("tried"), each["day"], row["openings"]]
        if each["name"] == ADDED:
            # A poll may have announced the same wait by a later try.
            each["occasion"] = row["added"] = (is_late and row["added"]) or each["occasion"]
        if each is oldest and len(kept) < len(log):
            each["row"] = dict(row)
    entry["event"] = next(each.get("event", id) for each in log.values() if each["occasion"] == entry["occasion"])
    row |= {name: parse_time(row[name]) for name in ("since", "last", "closed") if row[name]}
    row["attempts"] = rows.long(row["attempts"]) if row["attempts"] is not None else None
    return row | {"added": None, "rung": json.dumps(row["rung"]), "log": zlib.compress(json.dumps(kept).encode())}


def _follow_try(row: dict[str, Any], entry: Entry) -> bool:
    """Add a try to the columns of its pair; return True if a later try of the same wait is known."""
    at, tried, closed, last, is_added = entry["at"], entry["tried"], row["closed"], row["last"], entry["name"] == ADDED
    is_new, is_late = is_added or closed is None, False
    if tried and closed:
        # The PBX's clock may be behind ours: a try after the last one is new even if it is not after the closing.
        is_new = tried > closed or (is_added and last is not None and tried > last)
    if not row["open"] and is_new:
        row |= {"open": True, "openings": row["openings"] + 1, "since": min(tried or at, at)}
        row |= {"before": closed, "added": None, "attempts": None, "note": None, "rung": []}
        last = None
    elif tried and not (row["before"] and tried <= row["before"]):
        row["since"] = min(row["since"] or tried, tried) if last else tried
        is_late = last is not None and tried <= last
    row["rung"] = sorted({*row["rung"], *entry["rung"]})[:_FEW]
    if not (tried and last and tried < last):
        row["last"] = tried or last or at
        row["attempts"] = row["attempts"] if entry["attempts"] is None else entry["attempts"]
    return is_late


def _rung(storage: Storage, callerid: str | None, event: ReceivedEvent, region: str) -> list[int]:
    """Return the employees whom a try rang, as far as its call is known."""
    if not callerid:
        return []
    first, last = event.moment - _RANG, event.moment + _RANG
    near = people.find(storage, people.number(callerid, region), ["call"], first=first, last=last, limit=_FEW)
    return sorted({id for row in calls.by_pointers(storage, near) for id in json.loads(row.get("contacts") or "[]")})


def close_answered(bridge: Bridge, event: ReceivedEvent) -> None:
    """Close the lost callers of a number after an answered call with it, in either direction."""
    storage, region = bridge.storage, bridge.settings.default_region
    connected = event.data.get("callConnected") if event.type.name == "CallCompleted" else None
    is_out = event.data.get("direction", "").lower() == "out"
    number = event.data.get("destination") if is_out else event.caller
    if not number or connected is None:
        return
    subject = people.number(number, region)
    pointers = people.find(storage, subject, ["lost"], first=connected - _WAITS, limit=_FEW)
    pairs = filter(None, (get(storage, id) for id in {pointer.id for pointer in pointers}))
    for pair in pairs:
        if pair.open and people.number(pair.callerid, region) == subject and pair.last and pair.last < connected:
            close(storage, pair.id, connected)


def close(storage: Storage, id: str, moment: datetime, note: str | None = None) -> bool:
    """Close a pair that waits, with a note of who did it and why; return False if it does not wait."""
    name = f"closed {stamp(moment)}"

    def by(row: rows.Row | None) -> Row | None:
        log = _log(row)
        # An earlier write, whose answer was lost, has closed it.
        if row is None or name in log:
            return row
        if not row["open"]:
            return None
        entry = {"name": name, "at": stamp(moment), "day": max(each["day"] for each in log.values()), "note": note}
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
    """Return the waiting callers, latest try first; with `all` also the closed ones, after them."""
    # Row keys are hexadecimal, so the copies' keys sort after them.
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
    """Delete the pairs whose last event arrived within a period, waiting ones included."""
    return expire_rows(storage.table(TABLE), period.condition("at"), allowance)
