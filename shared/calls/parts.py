"""The parts that events add to their call's story, the same in any order and however often, and pointers to them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared import people
from shared.people import Pointer
from shared.times import call_start, has_zone, iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.events.event import ReceivedEvent
    from shared.people import Kind

# What a story needs of an event; the whole event stands in table `events`.
_FIELDS = (
    "caller",
    "destination",
    "direction",
    "contactID",
    "previous_contactID",
    "callStarted",
    "callConnected",
    "callEnded",
    "connectionTime",
    "status",
    "recordingID",
    "voicemailID",
    "blobUrl",
)
# No number, direction or address of ours is as long; a story of texts that long would not fit its row.
_LONGEST = {"caller": 100, "destination": 100, "direction": 20, "contact": 100, "status": 40, "blobUrl": 1000}
# A call that rings a hundred employees has two events each. Beyond it a story costs more than it says.
MOST_PARTS = 256
_MARKS = frozenset(("event", "history", "webhook"))
# A leg that says no more than that it rang, or stopped ringing.
_WEIGHTY = ("callConnected", "callEnded", "previous_contactID")
_LEGS = ("CallCompleted", "CallStarted")
# The same event keeps what it says of a leg apart from the rest, so that what is cut does not depend on the order.
_LIGHT = "~"
_CONTACTS = ("contactID", "previous_contactID")
_MEDIA: tuple[tuple[Kind, str], ...] = (("recording", "recordingID"), ("voicemail", "voicemailID"))

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Gathered:
    """
    The parts of a call by event id; `truncated` if there were more than MOST_PARTS, `given_up` if its end never came.
    """

    parts: Mapping[str, Part] = field(default_factory=dict)
    truncated: bool = False
    given_up: bool = False

    def with_event(self, event: ReceivedEvent) -> Gathered:
        """Return these with the part of an event; an equal set where it adds nothing."""
        part = part_of(event)
        key = event.id if _weight(part) == 0 else event.id + _LIGHT
        joined = join(self.parts[key], part) if key in self.parts else part
        parts = {**self.parts, key: joined}
        if len(parts) <= MOST_PARTS:
            return replace(self, parts=parts)
        return replace(self, parts=_weightiest(parts, MOST_PARTS), truncated=True)

    def shorter(self) -> Gathered:
        """Return the weightier half of the parts."""
        return replace(self, parts=_weightiest(self.parts, len(self.parts) // 2), truncated=True)

    def events(self) -> dict[str, Part]:
        """Return the parts by event id, each whole."""
        whole: dict[str, Part] = {}
        for key, part in self.parts.items():
            id = key.removesuffix(_LIGHT)
            whole[id] = join(whole[id], part) if id in whole else part
        return whole


def part_of(event: ReceivedEvent) -> Part:
    """Return the part of an event as JSON; `history` has the names of fields that come from the call history."""
    part: Part = {}
    for name in _FIELDS:
        value = getattr(event.data, name, None)
        if value is not None:
            part[name] = _moment(value, event.envelope["data"][name]) if isinstance(value, datetime) else value
    if event.caller:
        part["caller"] = event.caller
    if isinstance(word := event.data.misfits.get("status"), str):
        part["status"] = word.strip().lower()
    if "contactID" in event.data.misfits:
        part["contact"] = str(event.data.misfits["contactID"])
    part = {name: value for name, value in part.items() if not _is_too_long(name, value)}
    marks = {"history": sorted(part)} if event.from_history else {}
    return {"event": event.type.name, **part, **marks}


def _moment(value: datetime, sent: str) -> str:
    """Return a time in UTC, without the `Z` where it came without a zone: it may be an hour off."""
    return iso(value) if has_zone(sent) else iso(value).removesuffix("Z")


def join(one: Part, other: Part) -> Part:
    """
    Return two variants of the same event as one, whichever came first.

    For each field: present beats absent, history beats a webhook, else the smaller value stands.
    """
    stands = {name: best(name, (one, other)) for name in (one.keys() | other.keys()) - _MARKS}
    joined: Part = {"event": one["event"]} | {name: value for name, (value, _) in stands.items()}
    if "history" in one or "history" in other:
        joined["history"] = sorted(name for name, (_, is_history) in stands.items() if is_history)
        if came_by_webhook(one) or came_by_webhook(other):
            joined["webhook"] = True
    return joined


def best(name: str, parts: Iterable[Part]) -> tuple[Any, bool]:
    """Return the value of a field that stands among several parts, and whether it is history's; None without any."""
    said = [(name not in part.get("history", ()), _order(part[name]), part[name]) for part in parts if name in part]
    if not said:
        return None, False
    webhook, _, value = min(said, key=lambda one: one[:2])
    return value, not webhook


def having(parts: Iterable[Part], *names: str) -> list[Part]:
    """Return the parts that have all of these fields."""
    wanted = set(names)
    return [part for part in parts if part.keys() >= wanted]


def values(parts: Iterable[Part], name: str) -> list[Any]:
    """Return the values of a field in all parts that have it."""
    return [part[name] for part in having(parts, name)]


def came_by_webhook(part: Part) -> bool:
    """True if the PBX itself posted the event."""
    return "history" not in part or "webhook" in part


def _order(value: Any) -> tuple[int, str, bool]:
    # Without its zone, a time without a fraction sorts before one with it; of the same one, the one with a zone stands.
    return (value, "", False) if isinstance(value, int) else (0, value.removesuffix("Z"), not value.endswith("Z"))


def _is_too_long(name: str, value: Any) -> bool:
    return isinstance(value, str) and len(value) > _LONGEST.get(name, len(value))


def _weight(part: Part) -> int:
    return int(part["event"] in _LEGS and not any(name in part for name in _WEIGHTY))


def _weightiest(parts: Mapping[str, Part], most: int) -> Mapping[str, Part]:
    """Return so many of the parts: legs are left out first, and both ends of a leg together."""

    def place(key: str) -> tuple[int, int, str, str]:
        weight = _weight(part := parts[key])
        return weight, part.get("contactID", -1) if weight else -1, part["event"], key

    return {key: parts[key] for key in sorted(parts, key=place)[:most]}


def involved(call_id: int, gathered: Gathered, region: str, first: datetime) -> set[tuple[str, Pointer]]:
    """Return the pointers to a call and to what was recorded in it; `first` stands for a start that is unknown."""
    parts = list(gathered.parts.values())
    if not parts:
        return set()
    said = best("callStarted", parts)[0]
    started = call_start(call_id) or (parse_time(said) if said else first)
    callers = values(parts, "caller") or [None]
    subjects = {people.number(number, region) for number in (*callers, *values(parts, "destination"))}
    subjects |= {people.employee(id) for name in _CONTACTS for id in values(parts, name)}
    things = {Pointer("call", str(call_id), started)}
    for kind, name in _MEDIA:
        things |= {Pointer(kind, str(id), started) for id in values(parts, name)}
    return {(subject, thing) for subject in subjects for thing in things}


def involved_alone(event: ReceivedEvent, region: str) -> set[tuple[str, Pointer]]:
    """Return the same for an event that names no call, such as a voicemail whose call is not found yet."""
    numbers = {event.caller, getattr(event.data, "destination", None)} - {None}
    # Where it was entered before, also once its audio is stored.
    started = getattr(event.data, "callStarted", None) or event.moment
    ids = {kind: getattr(event.data, name, None) for kind, name in _MEDIA}
    things = [Pointer(kind, str(id), started) for kind, id in ids.items() if id is not None]
    return {(people.number(number, region), thing) for number in numbers for thing in things}
