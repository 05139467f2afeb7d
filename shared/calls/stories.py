"""The story of a call: the parts that its events add, and the row computed of them, the same in any order."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from shared.events.event import ReceivedEvent
from shared.times import after, call_start, parse_time, stamp
from shared.values import e164

# The fields that a part has of its event, beside the caller; table `events` has the whole event.
_FIELDS = (
    "destination", "direction", "contactID", "previous_contactID", "callStarted", "callConnected", "callEnded",
    "connectionTime", "status", "recordingID", "voicemailID", "blobUrl",
)  # fmt: skip
# Longer texts are left out: a story of them would not fit its row.
_LONGEST, _LONGEST_URL = 100, 1000
# A call that rings a hundred employees has two events for each.
MOST_PARTS = 256
# A part of these events that lacks all of these fields shows only that a phone rang, or stopped ringing.
_RINGS = ("CallCompleted", "CallStarted")
_WEIGHTY = ("callConnected", "callEnded", "previous_contactID")
# An integer column holds no more.
_LONGEST_TALK = 2**31 - 1
# A list is kept in a text column, which holds 32 Ki characters.
_LONGEST_LIST = 100
# The outcomes of a call whose end has not arrived.
UNENDED = ("ringing", "talking")
# The outcome of an unanswered end by its status, if that is a word or a SIP code; the PBX documents none.
_STATUSES: Mapping[str, tuple[str, frozenset[int]]] = {
    "busy": ("busy", frozenset((486, 600))),
    "declined": ("declin|reject|refus", frozenset((603,))),
    "failed": ("fail|error|unreach|congest|unavail", frozenset((404, 410, 484, 488, 604, 606, *range(500, 600)))),
}

Part = dict[str, Any]
# A call as one row: absent values are None, times are UTC, lists are in a fixed order and of 100 at most.
Story = dict[str, Any]
_Place = tuple[bool, int, str, str, bool]


@dataclass(frozen=True, slots=True)
class Gathered:
    """The parts of a call by their places; `truncated` if some were left out, `given_up` if no end is expected."""

    parts: Mapping[_Place, Part] = field(default_factory=dict)
    truncated: bool = False
    given_up: bool = False

    def with_event(self, event: ReceivedEvent) -> Gathered:
        """Return the parts with that of an event; an equal set if the event adds nothing."""
        part = part_of(event)
        place = place_of(part)
        part = join(self.parts.get(place, part), part)
        return replace(self, parts={**self.parts, place: part}).cut(MOST_PARTS)

    def cut(self, most: int) -> Gathered:
        """Return the first `most` parts by their places, the same ones in any order of events."""
        if len(self.parts) <= most:
            return self
        return replace(self, parts={place: self.parts[place] for place in sorted(self.parts)[:most]}, truncated=True)


def part_of(event: ReceivedEvent) -> Part:
    """Return the part of an event as JSON; `history` is when it came, if it comes from the PBX's lists."""
    part: Part = {"id": event.id, "event": event.type.name}
    if event.from_history:
        part["history"] = stamp(event.received)
    values = {name: event.data.get(name) for name in _FIELDS} | {"caller": event.caller}
    if isinstance(word := event.data.misfits.get("status"), str):
        values["status"] = word.strip().lower()
    for name, value in values.items():
        if isinstance(value, datetime):
            part[name] = stamp(value)
        elif isinstance(value, int) or (value and len(value) <= (_LONGEST_URL if name == "blobUrl" else _LONGEST)):
            part[name] = value
    return part


def place_of(part: Part) -> _Place:
    """Return the sort key of a part: phones that only rang come last, both ends of a leg together."""
    rings = part["event"] in _RINGS and part.keys().isdisjoint(_WEIGHTY)
    return rings, part.get("contactID", -1) if rings else -1, part["event"], part["id"], "history" in part


def join(one: Part, other: Part) -> Part:
    """Merge two variants of an event: newer history replaces older; else any value wins over none, then the smaller."""
    if one.get("history") != other.get("history"):
        return max(one, other, key=_history)
    joined = {**one, **other}
    for name in one.keys() & other.keys():
        joined[name] = min(one[name], other[name], key=_order)
    return joined


def _order(value: int | str) -> tuple[int, str]:
    return (0, value) if isinstance(value, str) else (value, "")


def _history(part: Part) -> str:
    return str(part.get("history", ""))


def _sum_up(parts: Iterable[Part]) -> tuple[Mapping[str, set[Any]], Mapping[str, set[Any]]]:
    """Return all values of each field, and those of its best source: the newest history, else webhooks."""
    values, sources = defaultdict[str, set[Any]](set), defaultdict[str, dict[str, set[Any]]](dict)
    for part in parts:
        for name, value in part.items():
            values[name].add(value)
            sources[name].setdefault(_history(part), set()).add(value)
    return values, {name: source[max(source)] for name, source in sources.items()}


def story_of(call_id: int, gathered: Gathered, region: str) -> Story:
    """Return the story of a call; its `outcome` is one of those that GetCalls lists."""
    parts = [gathered.parts[place] for place in sorted(gathered.parts)]
    values, newest = _sum_up(parts)
    best = {name: min(found, key=_order) for name, found in newest.items()}
    completed = [part for part in parts if part["event"] == "CallCompleted"]
    # History's item of a call that still goes on is no end.
    ends = [part for part in completed if "history" not in part or "callEnded" in part]
    answers = [part for part in parts if part["event"] == "CallConnected" or "callConnected" in part]
    caller, destination, connected = best.get("caller"), best.get("destination"), _time(best.get("callConnected"))
    ended = _time(max(newest["callEnded"])) if "callEnded" in newest else _ended(ends, answers)
    talk = 0 if ends and not answers else None
    if connected and ended:
        talk = min(max(0, round((ended - connected).total_seconds())), _LONGEST_TALK)
    outcome = _outcome(parts, ends, answers)
    if outcome == "missed" and best.get("direction", "").lower() == "out":
        outcome = "unanswered"
    return Story(
        caller=caller,
        callerE164=e164(caller, region),
        destination=destination,
        destinationE164=e164(destination, region),
        direction=best.get("direction"),
        started=_time(best.get("callStarted")) or call_start(call_id),
        connected=connected,
        ended=ended,
        talkSeconds=talk,
        outcome="unknown" if gathered.given_up and outcome in UNENDED else outcome,
        answeredBy=_answered_by(answers),
        contacts=sorted(values["contactID"] | values["previous_contactID"]),
        transfers=_transfers(parts)[:_LONGEST_LIST],
        recordings=sorted(values["recordingID"])[:_LONGEST_LIST],
        recordingUrls=_urls(parts, "recordingID"),
        voicemails=sorted(values["voicemailID"])[:_LONGEST_LIST],
        voicemailUrls=_urls(parts, "voicemailID"),
        revision=len(values["id"]),
        truncated=gathered.truncated,
    )


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def _urls(parts: Iterable[Part], name: str) -> list[str]:
    """Return the addresses of stored audio in the order of its ids."""
    stored = {(part[name], part["blobUrl"]) for part in parts if name in part and "blobUrl" in part}
    return [url for _, url in sorted(stored)][:_LONGEST_LIST]


def _contact(part: Part) -> int | None:
    """Return the employee of a part, or None; 0 is nobody."""
    return part.get("contactID") or None


def _ended(ends: list[Part], answers: list[Part]) -> datetime | None:
    """Return the end of the last leg: its answer and its length added."""
    earliest: dict[int | None, str] = {}
    for part in answers:
        if moment := part.get("callConnected"):
            earliest[_contact(part)] = min(earliest.get(_contact(part), moment), moment)
    moments = list[datetime]()
    for end in ends:
        # An end without a time of answer takes that of its employee's other events, or of the call's.
        begin = end.get("callConnected") or earliest.get(_contact(end)) or earliest.get(None)
        if not begin and _contact(end) is None:
            begin = min(earliest.values(), default=None)
        if begin and "connectionTime" in end and (moment := after(parse_time(begin), end["connectionTime"])):
            moments.append(moment)
    return max(moments, default=None)


def _answered_by(answers: list[Part]) -> int | None:
    """Return the first employee to answer, if possible one who was not handed the call and whose time is known."""

    def order(part: Part) -> tuple[bool, bool, str, int]:
        moment = part.get("callConnected", "")
        return "previous_contactID" in part, not moment, moment, part["contactID"]

    first = min((part for part in answers if "contactID" in part), key=order, default=None)
    return first["contactID"] if first else None


def _outcome(parts: list[Part], ends: list[Part], answers: list[Part]) -> str:
    ended, talking, rung, known = set(map(_contact, ends)), set(map(_contact, answers)), set[int | None](), set[str]()
    for part in parts:
        known.update(part)
        if part["event"] == "CallStarted":
            rung.add(_contact(part))
        if "previous_contactID" in part:
            talking.add(_contact(part))
    # An end without an employee, or of history, is that of the whole call.
    is_whole = None in ended or "callEnded" in known
    has_ended = bool(ends) and (is_whole or rung - {None} <= ended)
    if answers:
        # Other phones that stop ringing do not end the talk.
        has_hung_up = talking & ended or any("callConnected" in end for end in ends)
        return "answered" if has_hung_up or (has_ended and (is_whole or None in talking)) else "talking"
    if not has_ended:
        return "ringing"
    if "voicemailID" in known:
        return "voicemail"
    # History has the status of the whole call.
    words = {_word(end.get("status")) for end in [end for end in ends if "history" in end] or ends}
    return words.pop() if len(words) == 1 else "missed"


def _word(status: int | str | None) -> str:
    """Return the outcome of an unanswered end by its status."""
    for outcome, (words, codes) in _STATUSES.items():
        if status in codes or (isinstance(status, str) and re.search(words, status)):
            return outcome
    return "missed"


def _transfers(parts: Iterable[Part]) -> list[list[int]]:
    """Return [from, to] of each transfer, in the order of their times."""
    steps: list[tuple[str, list[int]]] = []
    legs: list[tuple[str, list[int]]] = []
    for part in parts:
        if "previous_contactID" in part and "contactID" in part:
            pair, moment = [part["previous_contactID"], part["contactID"]], _time(part.get("callConnected"))
            is_transfer = part["event"] == "CallTransfered"
            if is_transfer and moment:
                # Its `connectionTime` is the length of the talk before it.
                moment = after(moment, part.get("connectionTime", 0))
            (steps if is_transfer else legs).append((stamp(moment) if moment else "", pair))
    # The end of a leg repeats the transfer that led to it, and counts only if that is missing.
    for step in legs:
        if step[1] not in [pair for _, pair in steps]:
            steps.append(step)
    return [pair for _, pair in sorted(steps)]
