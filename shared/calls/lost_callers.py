"""
Lost callers: whether a caller still waits to be called back, and which of the events about it are repeats.

Where an event says `last_contact` (and attempts), they say which one it is, however late it comes. Where it does not,
the state of the day does: a caller who waits is not added again, and one who was removed is not removed again. The PBX
forgets all who wait at midnight, and says so to nobody.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.phones import e164
from shared.times import event_time, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from shared.events.event import ReceivedEvent

    State = dict[str, Any]
    Entry = dict[str, Any]

ADDED, UPDATED, REMOVED = "LostCallerAdded", "LostCallerUpdated", "LostCallerRemoved"
# Whose midnight that is, is not documented: UTC's or that of a country around the Baltic Sea.
_OFFSETS = tuple(timedelta(hours=hours) for hours in (0, 1, 2, 3))
# Tries of the same caller that are known one by one, the newest.
_CONTACTS = 50
# What a table's integer column holds.
_MOST_ATTEMPTS = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenCase:
    """A caller who waits to be called back: the numbers as they were sent, and what the newest event says."""

    callerid: str
    destination: str
    last_contact: datetime | None
    attempts: int | None
    since: datetime | None

    @property
    def last(self) -> datetime | None:
        """When the caller tried last, as far as that is known."""
        return self.last_contact or self.since


def key(event: ReceivedEvent, region: str) -> str:
    """The row key of the event's caller at its destination."""
    odd = [event.data.misfits.get(name) for name in ("callerid", "destination")]
    return key_of([getattr(event.data, name, None) for name in ("callerid", "destination")], region, odd)


def key_of(numbers: Sequence[str | None], region: str, odd: Sequence[Any] = (None, None)) -> str:
    """
    The row key of a caller at a destination, None where withheld: a hash, since keys stand in addresses and logs.

    `odd` are the values that are no numbers.
    """
    text = json.dumps([[e164(number, region) or number for number in numbers], list(odd)], ensure_ascii=False)
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=").lower()


def same_day(then: datetime, moment: datetime) -> bool:
    """Whether no midnight lies between two times, wherever it is counted."""
    return all((then + offset).date() == (moment + offset).date() for offset in _OFFSETS)


def entry(event: ReceivedEvent) -> Entry:
    """What the event differs in from others of its case."""
    last_contact = getattr(event.data, "last_contact", None)
    contact = stamp(last_contact) if last_contact else ""
    return {"contact": contact, "attempts": getattr(event.data, "attempts", None)}


def other_day(then: datetime, moment: datetime) -> bool:
    """Whether a midnight lies between two times, wherever it is counted."""
    return all((then + offset).date() != (moment + offset).date() for offset in _OFFSETS)


def _moment(entry: Entry) -> str:
    """When the caller tried, as far as that is known: not after we heard of it."""
    return str(min(entry["contact"] or entry["at"], entry["at"]))


def _on_the_day(state: State, entry: Entry) -> State:
    """How things stand on the day of an event: what was on an earlier one is over."""
    latest, moment = event_time(state.get("latest")), event_time(_moment(entry))
    if latest is None or moment is None or moment < latest or same_day(latest, moment):
        return state
    over = ("open", "added", "updated", "removed", "removedAt", "last", "attempts", "since")
    return {name: value for name, value in state.items() if name not in over} | {"open": False}


def repeated(state: State, entry: Entry) -> str | None:
    """The id of the event that this one repeats, if any."""
    state = _on_the_day(state, entry)
    name, contact, attempts = entry["event"], entry["contact"], entry["attempts"]
    if contact:
        for known in state.get("contacts", ()):
            if known[:2] == [name, contact] and (attempts is None or known[2] in (None, attempts)):
                return str(known[3])
    if name == REMOVED:
        return None if contact or state.get("open", True) else state.get("removed")
    if name == ADDED:
        # One that says when is another try than one that said so too.
        added = state.get("added") or {}
        return added.get("id") if state.get("open") and not (contact and added.get("contact")) else None
    return None if contact else state.get("updated", {}).get(json.dumps(attempts))


def after(state: State, entry: Entry) -> State:
    """How things stand after an event that repeats none."""
    latest = max(state.get("latest", ""), _moment(entry))
    state = _on_the_day(state, entry)
    name, contact, before = entry["event"], entry["contact"], state.get("last", "")
    state = {**state, "last": max(before, contact), "latest": latest}
    if contact:
        known = [name, contact, entry["attempts"], entry["id"]]
        state["contacts"] = [*state.get("contacts", ()), known][-_CONTACTS:]
    if name == REMOVED:
        # The removal of an earlier try leaves a newer one waiting.
        if not contact or contact >= state["last"]:
            state |= {"open": False, "removed": entry["id"], "removedAt": entry["at"]}
        return state
    if not state.get("open") and _opens(state, entry, before):
        state |= {"open": True, "added": None, "updated": {}, "since": entry["at"]}
    if name == ADDED and state.get("open"):
        state["added"] = {"id": entry["id"], "contact": contact}
    if name == UPDATED and not contact:
        state["updated"] = {**state.get("updated", {}), json.dumps(entry["attempts"]): entry["id"]}
    if state.get("open") and contact == state["last"]:
        state["attempts"] = entry["attempts"]
    return state


def _opens(state: State, entry: Entry, last: str) -> bool:
    """Whether a caller who does not wait waits after this: not after what happened before the removal."""
    removed, contact, is_added = str(state.get("removedAt", "")), str(entry["contact"]), bool(entry["event"] == ADDED)
    if not removed:
        return True
    if not contact:
        return is_added
    # The PBX's clock may be behind ours: a newer try than any before it is one all the same.
    return contact > removed or (is_added and "" < last < contact)


def columns(state: State, event: ReceivedEvent) -> dict[str, Any]:
    """What others read of a case."""
    if event.type.case != "lost":
        return {}
    attempts = state.get("attempts")
    said: dict[str, Any] = {name: getattr(event.data, name, None) or "" for name in ("callerid", "destination")}
    said["open"] = bool(state.get("open"))
    times = {"since": event_time(state.get("since")), "lastContact": event_time(state.get("last"))}
    said |= {name: moment for name, moment in times.items() if moment is not None}
    return said if attempts is None or abs(attempts) > _MOST_ATTEMPTS else {**said, "attempts": attempts}


def open_case(row: Mapping[str, Any]) -> OpenCase:
    """The open case in a row."""
    return OpenCase(
        callerid=row["callerid"],
        destination=row["destination"],
        last_contact=row.get("lastContact"),
        attempts=row.get("attempts"),
        since=row.get("since"),
    )
