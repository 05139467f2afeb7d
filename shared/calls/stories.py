"""The story of a call: the parts that its events add, and the row computed of them, the same in any order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.phones import e164
from shared.times import after, call_start, parse_time, stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.events.event import ReceivedEvent

# What a story needs of an event, beside its caller; the whole event stands in table `events`.
_FIELDS = (
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
# A call as one row: absent values are None, times are UTC, lists are in a fixed order and of 100 at most.
Story = dict[str, Any]
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
    part: Part = {"id": event.id, "event": event.type.name}
    if event.from_history:
        part["history"] = True
    said = {name: event.data.get(name) for name in _FIELDS} | {"caller": event.caller}
    if isinstance(word := event.data.misfits.get("status"), str):
        said["status"] = word.strip().lower()
    for name, value in said.items():
        if isinstance(value, datetime):
            part[name] = stamp(value)
        elif isinstance(value, int) or (value and len(value) <= (_LONGEST_URL if name == "blobUrl" else _LONGEST)):
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


def values(parts: Iterable[Part], name: str) -> list[Any]:
    """Return the values of a field in all parts that have it."""
    return [part[name] for part in parts if name in part]


def best(name: str, parts: Iterable[Part]) -> Any:
    """Return the value of a field that stands: history's before a webhook's, else the smallest; None without any."""
    having = [part for part in parts if name in part]
    return min(values([part for part in having if "history" in part] or having, name), key=_order, default=None)


def _order(value: int | str) -> tuple[int, str]:
    return (0, value) if isinstance(value, str) else (value, "")


def story_of(call_id: int, gathered: Gathered, region: str) -> Story:
    """
    Return the story of a call.

    Of several values for the whole call history's stands, else the smallest. `outcome` is one that GetCalls lists.
    """
    parts = [gathered.parts[place] for place in sorted(gathered.parts)]
    # History's item of a call that still goes on is no end.
    ends = [
        part for part in parts if part["event"] == "CallCompleted" and ("history" not in part or "callEnded" in part)
    ]
    answers = [part for part in parts if part["event"] == "CallConnected" or "callConnected" in part]
    connected, ended = _time(best("callConnected", parts)), _ended(parts, ends, answers)
    caller, destination, outcome = best("caller", parts), best("destination", parts), _outcome(parts, ends, answers)
    talk = 0 if ends and not answers else None
    if connected and ended:
        talk = min(max(0, round((ended - connected).total_seconds())), _LONGEST_TALK)
    return Story(
        caller=caller,
        callerE164=e164(caller, region),
        destination=destination,
        destinationE164=e164(destination, region),
        direction=best("direction", parts),
        started=_time(best("callStarted", parts)) or call_start(call_id),
        connected=connected,
        ended=ended,
        talkSeconds=talk,
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


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def _urls(parts: Iterable[Part], name: str) -> list[str]:
    stored = {(part[name], part["blobUrl"]) for part in parts if name in part and "blobUrl" in part}
    return [url for _, url in sorted(stored)][:_LONGEST_LIST]


def _contact(part: Part) -> int | None:
    """Return the employee of a part; None where it names nobody, of which 0 is a spelling."""
    return part.get("contactID") or None


def _ended(parts: list[Part], ends: list[Part], answers: list[Part]) -> datetime | None:
    if said := values(parts, "callEnded"):
        return parse_time(max(said))
    earliest: dict[int | None, str] = {}
    for part in answers:
        if moment := part.get("callConnected"):
            earliest[_contact(part)] = min(earliest.get(_contact(part), moment), moment)
    found = []
    for end in ends:
        # An end that does not say when somebody answered has it from that contact's other events, or the call's.
        contact = _contact(end)
        heard = earliest.get(contact) or earliest.get(None)
        if contact is None:
            heard = heard or min(earliest.values(), default=None)
        begin = end.get("callConnected", heard)
        if begin and "connectionTime" in end:
            found.append(after(parse_time(begin), end["connectionTime"]))
    return max(filter(None, found), default=None)


def _answered_by(answers: Iterable[Part]) -> int | None:
    named = [part for part in answers if "contactID" in part]
    # A transferred leg may carry the connection of the one before it: who was handed the call did not answer it.
    own = [part for part in named if "previous_contactID" not in part] or named
    timed = [part for part in own if "callConnected" in part] or own
    first = min(timed, key=lambda one: (one.get("callConnected", ""), one["contactID"]), default=None)
    return first["contactID"] if first else None


def _outcome(parts: list[Part], ends: list[Part], answers: list[Part]) -> str:
    rung = {_contact(part) for part in parts if part["event"] == "CallStarted"} - {None}
    ended = set(map(_contact, ends))
    # An end that names nobody, or is history's, is the whole call's.
    is_whole = None in ended or bool(values(ends, "callEnded"))
    has_ended = bool(ends) and (is_whole or rung <= ended)
    if answers:
        # That others stopped ringing is no end of the talk.
        handed = [part for part in parts if "previous_contactID" in part]
        talking = set(map(_contact, (*answers, *handed)))
        has_hung_up = is_whole or bool(values(ends, "callConnected")) or bool(talking & ended)
        return "answered" if has_hung_up or (None in talking and has_ended) else "talking"
    if not has_ended:
        return "ringing"
    if values(parts, "voicemailID"):
        return "voicemail"
    # History's word is that of the whole call.
    words = {_word(end.get("status")) for end in [one for one in ends if "history" in one] or ends}
    if len(words) == 1 and (word := words.pop()):
        return word
    return "unanswered" if (best("direction", parts) or "").lower() == "out" else "missed"


def _word(status: int | str | None) -> str:
    """Return the outcome that a status names; empty for any other."""
    for outcome, (words, codes) in _STATUSES.items():
        if status in codes or (isinstance(status, str) and re.search(words, status)):
            return outcome
    return ""


def _transfers(parts: Iterable[Part]) -> list[list[int]]:
    """Return [from, to] of each transfer in the order of their times: of those that are known, and of legs' ends."""
    steps, legs = [], {}
    for part in parts:
        if "previous_contactID" in part and "contactID" in part:
            pair, moment = [part["previous_contactID"], part["contactID"]], _time(part.get("callConnected"))
            if part["event"] != "CallTransfered":
                legs[tuple(pair)] = stamp(moment) if moment else ""
                continue
            # Its seconds are those that the giver has talked.
            moment = after(moment, part.get("connectionTime", 0)) if moment else None
            steps.append((stamp(moment) if moment else "", pair))
    known = [pair for _, pair in steps]
    # The end of a leg repeats the transfer that led to it.
    steps += [(moment, [*pair]) for pair, moment in legs.items() if [*pair] not in known]
    return [pair for _, pair in sorted(steps)]
