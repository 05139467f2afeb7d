"""The story of a call: the parts that its events add, and the row computed of them, the same in any order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from shared.phones import e164
from shared.times import after, belongs_to_call, call_start, has_zone, iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from shared.events.event import ReceivedEvent

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
# No number or address of ours is as long; a story of texts that long would not fit its row.
_LONGEST, _LONGEST_URL = 100, 1000
# A call that rings a hundred employees has two events each. Beyond it a story costs more than it says.
MOST_PARTS = 256
# Parts that say no more than that somebody's phone rang, or stopped ringing, without one of these fields.
_RINGS = ("CallCompleted", "CallStarted")
_WEIGHTY = ("callConnected", "callEnded", "previous_contactID")
# What a table's integer column holds.
_LONGEST_TALK = 2**31 - 1
# Lists stand in a text column, which holds 32 Ki characters.
_LONGEST_LIST = 100
# The outcomes of a call whose end has not come.
UNENDED = ("ringing", "talking")
# What the status of an end that nobody answered means, where it is a word or a SIP code; the PBX documents none.
_STATUSES: Mapping[str, tuple[str, frozenset[int]]] = {
    "busy": ("busy", frozenset((486, 600))),
    "declined": ("declin|reject|refus", frozenset((603,))),
    "failed": ("fail|error|unreach|congest|unavail", frozenset((404, 410, 484, 488, 604, 606, *range(500, 600)))),
}

Part = dict[str, Any]
_Place = tuple[bool, int, str, str, bool]


@dataclass(frozen=True, slots=True)
class Gathered:
    """The parts of a call, each at its place; `truncated` if some were left out, `given_up` if its end never came."""

    parts: Mapping[_Place, Part] = field(default_factory=dict)
    truncated: bool = False
    given_up: bool = False

    def with_event(self, event: ReceivedEvent) -> Gathered:
        """Return these with the part of an event; an equal set where it adds nothing."""
        part = part_of(event)
        place = place_of(part)
        if place in self.parts:
            part = join(self.parts[place], part)
        return replace(self, parts={**self.parts, place: part}).cut(MOST_PARTS)

    def cut(self, most: int) -> Gathered:
        """Return the first `most` parts by their places: what is left out does not depend on the order of events."""
        if len(self.parts) <= most:
            return self
        return replace(self, parts={place: self.parts[place] for place in sorted(self.parts)[:most]}, truncated=True)


def part_of(event: ReceivedEvent) -> Part:
    """Return the part of an event as JSON; with `history` where it comes from the PBX's lists."""
    found: Part = {name: value for name in _FIELDS if (value := getattr(event.data, name, None)) is not None}
    if event.caller:
        found["caller"] = event.caller
    misfits = event.data.misfits
    if isinstance(word := misfits.get("status"), str):
        found["status"] = word.strip().lower()
    if "contactID" in misfits:
        found["contact"] = str(misfits["contactID"])
    part: Part = {"id": event.id, "event": event.type.name} | ({"history": True} if event.from_history else {})
    for name, value in found.items():
        if isinstance(value, datetime):
            # Without the `Z` where it came without a zone: it may be an hour off.
            part[name] = iso(value) if has_zone(event.envelope["data"][name]) else iso(value).removesuffix("Z")
        elif not isinstance(value, str) or len(value) <= (_LONGEST_URL if name == "blobUrl" else _LONGEST):
            part[name] = value
    return part


def place_of(part: Part) -> _Place:
    """Return the place of a part: those of phones that only rang come last, both ends of a leg together."""
    rings = part["event"] in _RINGS and part.keys().isdisjoint(_WEIGHTY)
    return rings, part.get("contactID", -1) if rings else -1, part["event"], part["id"], "history" in part


def join(one: Part, other: Part) -> Part:
    """Return two variants of an event from one source as one: present beats absent, else the smaller value stands."""
    joined = {**one, **other}
    for name in one.keys() & other.keys():
        joined[name] = min(one[name], other[name], key=_order)
    return joined


def best(name: str, parts: Iterable[Part]) -> Any:
    """Return the value of a field that stands: history's before a webhook's, else the smallest; None without any."""
    said = [("history" not in part, _order(part[name]), part[name]) for part in parts if name in part]
    return min(said, key=lambda one: one[:2])[2] if said else None


def values(parts: Iterable[Part], name: str) -> list[Any]:
    """Return the values of a field in all parts that have it."""
    return [part[name] for part in parts if name in part]


def _order(value: Any) -> tuple[int, str, bool]:
    # Without its zone, a time without a fraction sorts before one with it; of the same one, the one with a zone stands.
    return (value, "", False) if isinstance(value, int) else (0, value.removesuffix("Z"), not value.endswith("Z"))


class Story(TypedDict):
    """A call as one row; absent values are None, times are UTC, lists are in a fixed order and of 100 at most."""

    caller: str | None
    callerE164: str | None
    destination: str | None
    destinationE164: str | None
    direction: str | None
    started: datetime | None
    connected: datetime | None
    ended: datetime | None
    talkSeconds: int | None
    outcome: str
    answeredBy: int | None
    contacts: list[int]
    transfers: list[list[int]]
    recordings: list[int]
    recordingUrls: list[str]
    voicemails: list[int]
    voicemailUrls: list[str]
    revision: int
    truncated: bool


def story_of(call_id: int, gathered: Gathered, region: str) -> Story:
    """
    Return the story of a call.

    Of several values for the whole call history's stands, else the smallest. `outcome` is one that GetCalls lists.
    """
    parts = _plausible(call_id, [gathered.parts[place] for place in sorted(gathered.parts)])
    ends, answers = list[Part](), list[Part]()
    for part in parts:
        # History's item of a call that still goes on is no end.
        if part["event"] == "CallCompleted" and ("history" not in part or "callEnded" in part):
            ends.append(part)
        if part["event"] == "CallConnected" or "callConnected" in part:
            answers.append(part)
    connected, ended = _time(best("callConnected", parts)), _ended(answers, ends, values(parts, "callEnded"))
    caller, destination, direction = best("caller", parts), best("destination", parts), best("direction", parts)
    outcome = _outcome(parts, ends, answers, direction)
    return Story(
        caller=caller,
        callerE164=e164(caller, region),
        destination=destination,
        destinationE164=e164(destination, region),
        direction=direction,
        started=_time(best("callStarted", parts)) or call_start(call_id),
        connected=connected,
        ended=ended,
        talkSeconds=_talk_seconds(connected, ended) if connected else 0 if ends and not answers else None,
        outcome="unknown" if gathered.given_up and outcome in UNENDED else outcome,
        answeredBy=_answered_by(answers),
        contacts=sorted({*values(parts, "contactID"), *values(parts, "previous_contactID")}),
        transfers=_transfers(parts)[:_LONGEST_LIST],
        recordings=sorted(set(values(parts, "recordingID")))[:_LONGEST_LIST],
        recordingUrls=_urls(parts, "recordingID"),
        voicemails=sorted(set(values(parts, "voicemailID")))[:_LONGEST_LIST],
        voicemailUrls=_urls(parts, "voicemailID"),
        revision=len(set(values(parts, "id"))),
        truncated=gathered.truncated,
    )


def _plausible(call_id: int, parts: list[Part]) -> list[Part]:
    """Return the parts without answers and ends before the call's start, or long after it."""
    starts = {*map(parse_time, values(parts, "callStarted")), call_start(call_id)}
    found = []
    for part in parts:
        left = dict(part)
        for name in ("callConnected", "callEnded"):
            time = left.get(name)
            if time and not belongs_to_call(parse_time(time), starts, zoned=has_zone(time)):
                del left[name]
        found.append(left)
    return found


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def _urls(parts: Iterable[Part], name: str) -> list[str]:
    stored = {(part[name], part["blobUrl"]) for part in parts if name in part and "blobUrl" in part}
    return [url for _, url in sorted(stored)][:_LONGEST_LIST]


def _contact(part: Part) -> int | str | None:
    """Return the employee of a leg, 0 being nobody; a contactID that could not be read is a name, as text."""
    contact: int | str | None = part.get("contactID", part.get("contact"))
    return contact or None


def _contacts(parts: Iterable[Part]) -> set[int | str | None]:
    return set(map(_contact, parts))


def _ended(answered: Iterable[Part], ends: Iterable[Part], said: list[str]) -> datetime | None:
    if said:
        return max(map(parse_time, said))
    answers: dict[int | str | None, datetime] = {}
    for part in answered:
        if "callConnected" in part:
            answer, contact = parse_time(part["callConnected"]), _contact(part)
            answers[contact] = min(answers.get(contact, answer), answer)
    found = []
    for end in ends:
        # An end that does not say when somebody answered has it from that contact's other events, or the call's.
        contact = _contact(end)
        heard = answers.get(contact) or (min(answers.values(), default=None) if contact is None else answers.get(None))
        begin = _time(end.get("callConnected")) or heard
        if begin and "connectionTime" in end:
            found.append(after(begin, end["connectionTime"]))
    return max(filter(None, found), default=None)


def _talk_seconds(connected: datetime, ended: datetime | None) -> int | None:
    return min(max(0, round((ended - connected).total_seconds())), _LONGEST_TALK) if ended else None


def _answered_by(answers: Iterable[Part]) -> int | None:
    named = [part for part in answers if "contactID" in part]
    # A transferred leg may carry the connection of the one before it: who was handed the call did not answer it.
    own = [part for part in named if "previous_contactID" not in part] or named
    timed = [part for part in own if "callConnected" in part] or own
    first = min(timed, key=lambda one: (one.get("callConnected", "").removesuffix("Z"), one["contactID"]), default=None)
    return first["contactID"] if first else None


def _outcome(parts: list[Part], ends: list[Part], answers: list[Part], direction: str | None) -> str:
    if answers:
        return "answered" if _has_talk_ended(parts, ends, answers) else "talking"
    if not ends or not _has_everybody_ended(parts, ends):
        return "ringing"
    if values(parts, "voicemailID"):
        return "voicemail"
    # History's word is that of the whole call.
    words = {_word(end.get("status")) for end in [one for one in ends if "history" in one] or ends}
    if len(words) == 1 and (word := words.pop()):
        return word
    return "unanswered" if (direction or "").lower() == "out" else "missed"


def _word(status: int | str | None) -> str:
    """Return the outcome that a status names; empty for any other."""
    for outcome, (words, codes) in _STATUSES.items():
        if status in codes or (isinstance(status, str) and re.search(words, status)):
            return outcome
    return ""


def _has_everybody_ended(parts: Collection[Part], ends: Collection[Part]) -> bool:
    ended = _contacts(ends)
    # An end of history's is the whole call's, too.
    if _is_anybodys(parts, ended) or values(ends, "callEnded"):
        return True
    rung = _contacts(part for part in parts if part["event"] == "CallStarted") - {None}
    # A leg whose contactID could not be read may have ended under any name that nobody rang under.
    left = rung - ended
    return len(left) <= len(ended - rung) and not any(isinstance(contact, int) for contact in left)


def _is_anybodys(parts: Iterable[Part], ended: Collection[int | str | None]) -> bool:
    """True if an end names nobody, or nobody whom the call's other events know: then it is the whole call's."""
    others = _contacts(part for part in parts if part["event"] != "CallCompleted")
    return any(contact is None or (isinstance(contact, str) and contact not in others) for contact in ended)


def _has_talk_ended(parts: Collection[Part], ends: Collection[Part], answers: Collection[Part]) -> bool:
    """True if somebody who talked has hung up; that others stopped ringing is no end of the talk."""
    if values(ends, "callConnected") or values(ends, "callEnded"):
        return True
    ended = _contacts(ends)
    talking = _contacts(answers) | _contacts(part for part in parts if "previous_contactID" in part)
    if talking & ended or _is_anybodys(parts, ended):
        return True
    unnamed = any(not isinstance(contact, int) for contact in talking)
    return unnamed and bool(ends) and _has_everybody_ended(parts, ends)


def _transfers(parts: Iterable[Part]) -> list[list[int]]:
    """Return [from, to] of each transfer, in the order of their times, or in that of the chain."""
    handed = [part for part in parts if "previous_contactID" in part and "contactID" in part]
    if not handed:
        return []
    steps = [
        (_handed_at(part), part["previous_contactID"], part["contactID"])
        for part in handed
        if part["event"] == "CallTransfered"
    ]
    known = {step[1:] for step in steps}
    # The end of a transferred leg repeats the step that led to it.
    pairs = {(part["previous_contactID"], part["contactID"]) for part in handed}
    steps += [("", *pair) for pair in sorted(pairs - known)]
    if all(time for time, _, _ in steps):
        return [[giver, taker] for _, giver, taker in sorted(steps)]
    return _chain(sorted((giver, taker) for _, giver, taker in steps))


def _handed_at(part: Part) -> str:
    # No seconds may be those of the transfer before, too.
    says_when = "callConnected" in part and part.get("connectionTime")
    moment = after(parse_time(part["callConnected"]), part["connectionTime"]) if says_when else None
    return moment.isoformat() if moment else ""


def _chain(steps: list[tuple[int, int]]) -> list[list[int]]:
    chain: list[list[int]] = []
    while steps:
        sources = {step[0] for step in steps} - {step[1] for step in steps}
        here = chain[-1][1] if chain else None
        onward = [step for step in steps if step[0] == here] or [step for step in steps if step[0] in sources] or steps
        step = min(onward)
        steps.remove(step)
        chain.append(list(step))
    return chain
