"""
Lost callers: whether a caller still waits to be called back, and which of the events about it are repeats.

Where an event says `last_contact` (and attempts), they say which one it is, however late it comes. Where it does not,
the state does: a caller who waits is not added again, and one who was removed is not removed again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.phones import e164
from shared.times import event_time, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.events.event import ReceivedEvent

    State = dict[str, Any]
    Entry = dict[str, Any]

ADDED, UPDATED, REMOVED = "LostCallerAdded", "LostCallerUpdated", "LostCallerRemoved"
# Tries of the same caller that are known one by one, the newest.
_CONTACTS = 50
# What a table's integer column holds.
_MOST_ATTEMPTS = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenCase:
    """A caller who waits to be called back: the numbers as they were sent, and what the newest event says."""

    callerid: str
    destination: str
    last_contact: str | None
    attempts: int | None
    since: str


def key(event: ReceivedEvent, region: str) -> str:
    """The row key of a caller at a destination: a hash, since keys stand in addresses and logs."""
    numbers = [getattr(event.data, name, None) for name in ("callerid", "destination")]
    odd = [event.data.misfits.get(name) for name in ("callerid", "destination")]
    text = json.dumps([[e164(number, region) or number for number in numbers], odd], ensure_ascii=False)
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=").lower()


def entry(event: ReceivedEvent) -> Entry:
    """What the event differs in from others of its case."""
    last_contact = getattr(event.data, "last_contact", None)
    return {
        "contact": stamp(last_contact) if last_contact else "",
        "attempts": getattr(event.data, "attempts", None),
    }


def repeated(state: State, entry: Entry) -> str | None:
    """The id of the event that this one repeats, if any."""
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
    name, contact, before = entry["event"], entry["contact"], state.get("last", "")
    state = {**state, "last": max(before, contact)}
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
        last_contact=stamp(row["lastContact"]) if "lastContact" in row else None,
        attempts=row.get("attempts"),
        since=stamp(row["since"]) if "since" in row else "",
    )
