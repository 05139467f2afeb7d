"""
Table `lostcallers`: one row a pair of a caller and the number where nobody answered, and a copy while the caller waits.

An event that has its own time (`last_contact`) is known by it. For one without, the day and how often the pair has
waited on that day tell a repeat from the next of its kind. The PBX forgets all who wait at midnight and tells nobody:
each day begins with nobody waiting.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared import people
from shared.calls import store as calls
from shared.people import Pointer
from shared.storage import rows
from shared.storage.expiry import delete_keys, expire_rows
from shared.times import local_day
from shared.values import e164

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Period

    Row = Mapping[str, Any]

TABLE = "lostcallers"
PARTITION = "lost"
ADDED, UPDATED, REMOVED = "LostCallerAdded", "LostCallerUpdated", "LostCallerRemoved"
# Whose midnight that is, is not documented: UTC's or that of a country around the Baltic Sea.
_OFFSETS = tuple(timedelta(hours=hours) for hours in (0, 1, 2, 3))
# What a table's integer column holds.
_MOST_ATTEMPTS = 2**31 - 1
# A try is a call that began shortly before; a pair may be called back on the next day.
_RANG, _WAITS = timedelta(minutes=10), timedelta(days=7)
_FEW = 20
# Events of one pair whose repeats are known.
_REMEMBERED = 30
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
    storage, region, is_try = bridge.storage, bridge.settings.default_region, event.type.name != REMOVED
    table, pair = storage.table(TABLE), (event.data.get("callerid"), event.data.get("destination"))
    id, known = key(storage, *pair, region), [event.id]
    moment = min(event.data.moment or event.received, event.received)
    day = local_day(moment, bridge.settings.time_zone).isoformat()
    # One a day, however often the caller tries.
    pointer = Pointer("lost", id, event.received.replace(hour=0, minute=0, second=0, microsecond=0))
    said = {"callerid": pair[0] or "", "destination": pair[1] or ""}
    subjects = {people.number(number, region) for number in pair if number} | people.loose(said, (), region)
    people.add(storage, [(subject, pointer) for subject in subjects])
    rung = _rung(storage, pair[0], event, region) if is_try else []

    def by(row: rows.Row | None) -> Row:
        after, number = dict(row or {"day": day, "at": moment}), 1
        if day > after["day"]:
            after |= {"day": day, "open": False, "openings": 0}
            after |= dict.fromkeys(("closed", "parted", "heard", "last"))
        # A day that is over has no columns any more: what comes late of it changes none.
        if day == after["day"]:
            number = _tried(after, event, moment) if is_try else _called_back(after, event.received)
            after |= {**said, "at": max(after["at"], moment)}
            after["name"] = event.data.get("contact_name", after.get("name"))
            after["rung"] = json.dumps(sorted({*json.loads(after.get("rung") or "[]"), *rung})[:_FEW])
        if event.data.moment is None:
            ids = json.loads(after.get("ids") or "{}")
            known[0] = ids.setdefault(f"{event.type.name} {event.data.get('attempts')} {day} {number}", event.id)
            after["ids"] = json.dumps(dict([*ids.items()][-_REMEMBERED:]))
        return {name: value for name, value in after.items() if value is not None}

    rows.change(table, PARTITION, id, by, beside=_copied)
    return replace(event, id=known[0])


def _tried(row: dict[str, Any], event: ReceivedEvent, moment: datetime) -> int:
    """Set the columns after a try; return the number of the pair's waiting, on its day, that the try belongs to."""
    tried, received, last = event.data.moment, event.received, row.get("last")
    if not row.get("open") and _opens(row, event):
        row |= {"open": True, "since": moment, "first": moment, "last": moment, "attempts": None, "note": None}
        row |= {"openings": row.get("openings", 0) + 1, "parted": row.get("closed"), "heard": received, "rung": None}
    elif row.get("parted") and received <= row["parted"]:
        return _number(row) - 1
    elif row.get("open") or received <= row["closed"]:
        row["heard"] = max(row.get("heard") or received, received)
    if tried and last and tried < last:
        if row.get("open"):
            row["first"] = min(row["first"], tried)
    else:
        row["last"] = tried or last or received
        if abs(attempts := event.data.get("attempts", _MOST_ATTEMPTS + 1)) <= _MOST_ATTEMPTS:
            row["attempts"] = attempts
    return _number(row)


def _opens(row: Row, event: ReceivedEvent) -> bool:
    """True if a caller who does not wait waits after a try: not after what happened before it was called back."""
    closed, last, tried, is_added = row.get("closed"), row.get("last"), event.data.moment, event.type.name == ADDED
    if closed is None:
        return True
    if tried is None or event.received <= closed:
        return is_added and event.received > closed
    # The PBX's clock may be behind ours: a later try than any before is a new one all the same.
    return tried > closed or (is_added and last is not None and tried > last)


def _called_back(row: dict[str, Any], received: datetime) -> int:
    """Set the columns after a removal; return the number of the waiting, on its day, that it ends."""
    row["closed"] = max(row.get("closed") or received, received)
    if row.get("heard") and received < row["heard"]:
        # One that was sent before the newest try leaves that one waiting.
        return _number(row) - 1
    row |= {"open": False, "openings": _number(row)}
    return _number(row)


def _number(row: Row) -> int:
    """Return how often the pair has waited on its day; at least once, as what was heard of it says."""
    return max(int(row.get("openings", 0)), 1)


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

    def by(row: rows.Row | None) -> Row | None:
        # A write whose answer was lost has closed it at this very moment.
        if row is None or not (row.get("open") or row.get("closed") == moment):
            return None
        return {**row, "open": False, "closed": moment} | ({"note": note} if note else {})

    return rows.change(storage.table(TABLE), PARTITION, id, by, beside=_copied) is not None


def _copied(old: Row | None, new: Row) -> list[tuple[Any, ...]]:
    """Return the operations that keep the copy of a row that waits."""
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
    columns = {field.name: row[field.name] for field in fields(LostCaller) if field.name in row}
    return LostCaller(
        **columns | {"id": row["RowKey"].removeprefix(_WAITING), "rung": tuple(json.loads(row.get("rung") or "[]"))}
    )


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the pairs whose last event came within a period, also those that nobody called back."""
    return expire_rows(storage.table(TABLE), period.condition("at"), allowance)
