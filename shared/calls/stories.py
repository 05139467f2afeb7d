"""The story of a call, computed from the parts of its events: the same in any order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypedDict

from shared.calls.parts import Gathered, Part, best, came_by_webhook, having, values
from shared.phones import e164
from shared.times import after, belongs_to_call, call_start, has_zone, parse_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

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
    events = gathered.events()
    parts = _plausible(call_id, [events[id] for id in sorted(events)])
    started = _time(parts, "callStarted") or call_start(call_id)
    connected = _time(parts, "callConnected")
    ended = _ended(parts)
    caller, destination = best("caller", parts)[0], best("destination", parts)[0]
    direction = best("direction", parts)[0]
    outcome = _outcome(parts, direction)
    return Story(
        caller=caller,
        callerE164=e164(caller, region),
        destination=destination,
        destinationE164=e164(destination, region),
        direction=direction,
        started=started,
        connected=connected,
        ended=ended,
        talkSeconds=_talk_seconds(parts, connected, ended),
        outcome="unknown" if gathered.given_up and outcome in UNENDED else outcome,
        answeredBy=_answered_by(parts),
        contacts=sorted({*values(parts, "contactID"), *values(parts, "previous_contactID")}),
        transfers=_transfers(parts)[:_LONGEST_LIST],
        recordings=sorted(set(values(parts, "recordingID")))[:_LONGEST_LIST],
        recordingUrls=_urls(parts, "recordingID"),
        voicemails=sorted(set(values(parts, "voicemailID")))[:_LONGEST_LIST],
        voicemailUrls=_urls(parts, "voicemailID"),
        revision=len(events),
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


def _time(parts: Iterable[Part], name: str) -> datetime | None:
    """Return the first of several times, or history's."""
    value, _ = best(name, parts)
    return parse_time(value) if value else None


def _urls(parts: Iterable[Part], name: str) -> list[str]:
    stored = {(part[name], part["blobUrl"]) for part in having(parts, name, "blobUrl")}
    return [url for _, url in sorted(stored)][:_LONGEST_LIST]


def _contact(part: Part) -> int | str | None:
    """Return the employee of a leg, 0 being nobody; a contactID that could not be read is a name, as text."""
    contact: int | str | None = part.get("contactID", part.get("contact"))
    return contact or None


def _ends(parts: Iterable[Part]) -> list[Part]:
    """Return the ends of legs; history's item of a call that still goes on is none."""
    completed = (part for part in parts if part["event"] == "CallCompleted")
    return [part for part in completed if came_by_webhook(part) or "callEnded" in part]


def _answers(parts: Iterable[Part]) -> dict[int | str | None, str]:
    """Return when each employee answered first."""
    answers: dict[int | str | None, str] = {}
    for part in having(parts, "callConnected"):
        contact, answer = _contact(part), part["callConnected"]
        answers[contact] = min(answers.get(contact, answer), answer, key=parse_time)
    return answers


def _ended(parts: list[Part]) -> datetime | None:
    said = values(parts, "callEnded")
    if said:
        return max(map(parse_time, said))
    answers = _answers(parts)
    first = min(answers.values(), key=parse_time, default=None)
    found = []
    for part in _ends(parts):
        # An end that does not say when somebody answered has it from that contact's other events.
        contact = _contact(part)
        answer = part.get("callConnected") or answers.get(contact) or (first if contact is None else answers.get(None))
        if answer and "connectionTime" in part:
            found.append(after(parse_time(answer), part["connectionTime"]))
    return max(filter(None, found), default=None)


def _talk_seconds(parts: list[Part], connected: datetime | None, ended: datetime | None) -> int | None:
    if connected is None:
        return 0 if _ends(parts) and not _is_answered(parts) else None
    return min(max(0, round((ended - connected).total_seconds())), _LONGEST_TALK) if ended else None


def _is_answered(parts: Iterable[Part]) -> bool:
    return any("callConnected" in part or part["event"] == "CallConnected" for part in parts)


def _answered_by(parts: Iterable[Part]) -> int | None:
    answers = [part for part in parts if _is_answered([part]) and "contactID" in part]
    # A transferred leg may carry the connection of the one before it: who was handed the call did not answer it.
    own = [part for part in answers if "previous_contactID" not in part] or answers
    timed = having(own, "callConnected") or own
    answered = [(part.get("callConnected", "").removesuffix("Z"), part["contactID"]) for part in timed]
    return min(answered, default=(None, None))[1]


def _outcome(parts: list[Part], direction: str | None) -> str:
    ends = _ends(parts)
    if _is_answered(parts):
        return "answered" if _has_talk_ended(parts, ends) else "talking"
    if not ends or not _has_everybody_ended(parts, ends):
        return "ringing"
    if values(parts, "voicemailID"):
        return "voicemail"
    words = {_word(part.get("status")) for part in ends}
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
    ended = {_contact(part) for part in ends}
    # An end of history's is the whole call's, too.
    if _is_anybodys(parts, ended) or values(ends, "callEnded"):
        return True
    rung = {_contact(part) for part in parts if part["event"] == "CallStarted"} - {None}
    # A leg whose contactID could not be read may have ended under any name that nobody rang under.
    left = rung - ended
    return len(left) <= len(ended - rung) and not any(isinstance(contact, int) for contact in left)


def _is_anybodys(parts: Iterable[Part], ended: Collection[int | str | None]) -> bool:
    """True if an end names nobody, or nobody whom the call's other events know: then it is the whole call's."""
    others = {_contact(part) for part in parts if part["event"] != "CallCompleted"}
    return any(contact is None or (isinstance(contact, str) and contact not in others) for contact in ended)


def _has_talk_ended(parts: Collection[Part], ends: Collection[Part]) -> bool:
    """True if somebody who talked has hung up; that others stopped ringing is no end of the talk."""
    talking = {_contact(part) for part in parts if _is_answered([part]) or "previous_contactID" in part}
    ended = {_contact(part) for part in ends}
    says_when = any("callConnected" in end or "callEnded" in end for end in ends)
    if talking & ended or _is_anybodys(parts, ended) or says_when:
        return True
    unnamed = any(not isinstance(contact, int) for contact in talking)
    return unnamed and bool(ends) and _has_everybody_ended(parts, ends)


def _transfers(parts: Iterable[Part]) -> list[list[int]]:
    """Return [from, to] of each transfer, in the order of their times, or in that of the chain."""
    handed = having(parts, "previous_contactID", "contactID")
    if not handed:
        return []
    events = [part for part in handed if part["event"] == "CallTransfered"]
    steps = [(_handed_at(part), part["previous_contactID"], part["contactID"]) for part in events]
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
