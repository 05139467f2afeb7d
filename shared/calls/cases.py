"""
Table `cases`: how a repeat differs from the next event of its kind, where the event itself does not.

A case is a caller whom nobody reached at a number, or the transfers of one call. Its row keeps its last events in the
order in which they came in, in any order they are processed, each with the id that it stands under: its own, or
that of the event it repeats.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from shared.calls import lost_callers, transfers
from shared.json_bodies import encode
from shared.storage import rows
from shared.storage.expiry import expire_rows
from shared.storage.messages import send
from shared.times import parse_time, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from shared.calls.lost_callers import Entry, OpenCase, State
    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period

TABLE = "cases"
# As many late or repeated events of one case are known one by one; older ones live on in its state.
_REMEMBERED = 30
# A repeat that turns out to be an event of its own comes back whole; no such event is longer.
_LONGEST_MESSAGE = 2000


class Kind(Protocol):
    """How a kind of case is known, and what its events mean."""

    def key(self, event: ReceivedEvent, region: str) -> str:
        """The row key of the event's case."""

    def entry(self, event: ReceivedEvent) -> Entry:
        """What the case remembers of the event."""

    def repeated(self, state: State, entry: Entry) -> str | None:
        """The id of the event that this one repeats, as things stand; None for a new one."""

    def after(self, state: State, entry: Entry) -> State:
        """How things stand after a new event."""


_KINDS: Mapping[str, Kind] = {"lost": lost_callers, "transfer": transfers}


def settled(storage: Storage, event: ReceivedEvent, region: str) -> ReceivedEvent:
    """
    The event under the id that it stands under: its own where it is new, else that of the event which it repeats.

    The answer belongs to the message's own id: a message that is run again, or twice at once, has the same one. An
    earlier event that is processed late may show that a supposed repeat was none: that one is queued again.
    """
    if event.type.case is None:
        return event
    kind, found = _KINDS[event.type.case], [event.id]
    revived: list[Mapping[str, Any]] = []

    def by(row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        case: dict[str, Any] = json.loads(zlib.decompress(row["case"])) if row else {"before": {}, "log": []}
        log: list[Entry] = case["log"]
        mine = next((entry for entry in log if entry["id"] == event.id), None)
        if mine is None:
            mine = {"id": event.id, "at": stamp(event.received), "event": event.type.name, **kind.entry(event)}
            log.append(mine)
            log.sort(key=lambda entry: (entry["at"], entry["id"]))
            message = event.message()
            if len(encode(message)) <= _LONGEST_MESSAGE:
                mine["message"] = message
            state = _judge(kind, case)
        elif mine.pop("revived", None):
            state = _judge(kind, case)
        else:
            state = None
        found[0] = mine["as"]
        revived[:] = [entry["message"] for entry in log if entry.get("revived")]
        return None if state is None else {**_row(case), **lost_callers.columns(state, event)}

    rows.change(storage.table(TABLE), event.type.case, kind.key(event, region), by)
    for message in revived:
        send(storage, "events", message, name=str(message["id"]))
    return replace(event, id=found[0])


def open_cases(storage: Storage) -> list[OpenCase]:
    """The callers who wait to be called back, as far as their events say."""
    found = storage.table(TABLE).query_entities("PartitionKey eq 'lost' and open eq true")
    return [lost_callers.open_case(row) for row in found]


def heard_until(storage: Storage, numbers: Sequence[str | None], region: str) -> datetime | None:
    """Up to which try of a caller at a destination the events have come; without a try, when the last came."""
    key = lost_callers.key_of(numbers, region)
    row = rows.get(storage.table(TABLE), "lost", key, select=["PartitionKey", "lastContact", "at"])
    return row.get("lastContact") or row.get("at") if row is not None else None


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """Delete the cases whose last event came within a period: nobody closes those that the PBX forgot at midnight."""
    return expire_rows(storage.table(TABLE), period.condition("at"), allowance)


def _judge(kind: Kind, case: dict[str, Any]) -> State:
    """
    Give every event of the case the id that it stands under; returns how things stand then.

    Which ones are the same follows from the order in which they came in alone. Of those, what had its effect keeps it,
    and the others stand under it; where none had, the newest to be processed has.
    """
    state: State = case["before"]
    same: dict[str, list[Entry]] = {}
    for entry in case["log"]:
        first = kind.repeated(state, entry)
        if first is None:
            state = kind.after(state, entry)
        same.setdefault(first or entry["id"], []).append(entry)
    for first, entries in same.items():
        _settle(first, entries)
    for entry in case["log"][:-_REMEMBERED]:
        if kind.repeated(case["before"], entry) is None:
            case["before"] = kind.after(case["before"], {**entry, "id": entry["as"]})
    del case["log"][:-_REMEMBERED]
    return state


def _settle(first: str, entries: list[Entry]) -> None:
    """Give the events that are the same one the id of the one that has, or gets, its effect."""
    stands = next((entry["id"] for entry in entries if entry.get("as") == entry["id"]), None)
    if stands is None and all(entry["id"] != first for entry in entries):
        stands = first
    if stands is None:
        fresh = next((entry for entry in entries if "as" not in entry), None)
        # Supposed repeats that are none; their messages are gone, but for what was kept of them.
        lost = next((entry for entry in entries if "message" in entry), entries[0])
        stands = (fresh or lost)["id"]
        if fresh is None and "message" in lost:
            lost["revived"] = True
    for entry in entries:
        if entry.get("as") != entry["id"]:
            entry["as"] = stands
        if entry["as"] == entry["id"] and not entry.get("revived"):
            entry.pop("message", None)


def _row(case: Mapping[str, Any]) -> dict[str, Any]:
    # When anything came last: what nobody adds to grows old.
    return {"case": zlib.compress(encode(case)), "at": parse_time(case["log"][-1]["at"])}
