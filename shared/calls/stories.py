"""The story of a call, told from the set of its events: the same whatever order they came in."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from shared.events.table import EVENTS
from shared.phones import e164
from shared.times import after, call_start, iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.events.event import ReceivedEvent

# What a story needs of an event; the whole event stands in table `events`.
_TOLD = (
    "caller",
    "destination",
    "direction",
    "contactID",
    "previous_contactID",
    "callStarted",
    "callConnected",
    "callEnded",
    "connectionTime",
    "recordingID",
    "voicemailID",
    "blobUrl",
)
# What a table's integer column holds.
_LONGEST_TALK = 2**31 - 1
_RANK = {event.name: rank for rank, event in enumerate(EVENTS)}

Part = dict[str, Any]


class Story(TypedDict):
    """A call as one entity; absent values are None, times are UTC, lists are in a fixed order."""

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


def part_of(event: ReceivedEvent) -> Part:
    """What an event adds to its call's story, as JSON."""
    part: Part = {"event": event.type.name}
    for name in _TOLD:
        value = getattr(event.data, name, None)
        if value is not None:
            part[name] = iso(value) if isinstance(value, datetime) else value
    if event.caller:
        part["caller"] = event.caller
    return part


def tell(call_id: int, parts: Mapping[str, Part], region: str) -> Story:
    """The story that a call's events tell together; `parts` maps event ids to what part_of made of them."""
    told = [part for _, part in sorted(parts.items(), key=lambda item: (_RANK[item[1]["event"]], item[0]))]
    told = [_connected(part, told) for part in told]
    started = _earliest(told, "callStarted") or call_start(call_id)
    connected = _earliest(told, "callConnected")
    ended = max(_ends(told), default=None)
    caller, destination = _first(told, "caller"), _first(told, "destination")
    direction = _first(told, "direction")
    return Story(
        caller=caller,
        callerE164=e164(caller, region),
        destination=destination,
        destinationE164=e164(destination, region),
        direction=direction,
        started=started,
        connected=connected,
        ended=ended,
        talkSeconds=_talk_seconds(told, connected, ended),
        outcome=_outcome(told, direction),
        answeredBy=_answered_by(told),
        contacts=_numbers(told, "contactID", "previous_contactID"),
        transfers=_transfers(told),
        recordings=_numbers(told, "recordingID"),
        recordingUrls=_urls(told, "recordingID"),
        voicemails=_numbers(told, "voicemailID"),
        voicemailUrls=_urls(told, "voicemailID"),
        revision=len(parts),
    )


def _connected(part: Part, told: Iterable[Part]) -> Part:
    """An end that does not tell when somebody answered, with what that contact's other events tell."""
    if part["event"] != "CallCompleted" or "callConnected" in part:
        return part
    contact = part.get("contactID")
    answers = [
        other["callConnected"]
        for other in told
        if "callConnected" in other and (contact is None or other.get("contactID") == contact)
    ]
    return {**part, "callConnected": min(answers, key=parse_time)} if answers else part


def _first(told: Iterable[Part], name: str) -> Any:
    return next((part[name] for part in told if name in part), None)


def _earliest(told: Iterable[Part], name: str) -> datetime | None:
    return min((parse_time(part[name]) for part in told if name in part), default=None)


def _numbers(told: Iterable[Part], *names: str) -> list[int]:
    return sorted({part[name] for part in told for name in names if name in part})


def _urls(told: Iterable[Part], name: str) -> list[str]:
    stored = {(part[name], part["blobUrl"]) for part in told if name in part and "blobUrl" in part}
    return [url for _, url in sorted(stored)]


def _ends(told: Iterable[Part]) -> Iterable[datetime]:
    for part in told:
        if "callEnded" in part:
            yield parse_time(part["callEnded"])
        elif part["event"] == "CallCompleted" and "callConnected" in part and "connectionTime" in part:
            ended = after(parse_time(part["callConnected"]), part["connectionTime"])
            if ended:
                yield ended


def _completed(told: Iterable[Part]) -> list[Part]:
    return [part for part in told if part["event"] == "CallCompleted"]


def _talk_seconds(told: list[Part], connected: datetime | None, ended: datetime | None) -> int | None:
    if connected is None:
        return 0 if _completed(told) else None
    return min(max(0, round((ended - connected).total_seconds())), _LONGEST_TALK) if ended else None


def _answered_by(told: Iterable[Part]) -> int | None:
    answers = [part for part in told if "callConnected" in part and "contactID" in part]
    # A transferred leg may carry the connection of the one before it: who was handed the call did not answer it.
    own = [part for part in answers if "previous_contactID" not in part] or answers
    ranked = sorted(own, key=lambda part: (parse_time(part["callConnected"]), part["contactID"]))
    return ranked[0]["contactID"] if ranked else None


def _outcome(told: list[Part], direction: str | None) -> str:
    completed = _completed(told)
    if any("callConnected" in part for part in told):
        return "answered" if any("callConnected" in part for part in completed) else "talking"
    rung = {part.get("contactID") for part in told if part["event"] == "CallStarted"}
    if not completed or rung - {part.get("contactID") for part in completed}:
        return "ringing"
    if any("voicemailID" in part for part in told):
        return "voicemail"
    return "unanswered" if (direction or "").lower() == "out" else "missed"


def _transfers(told: Iterable[Part]) -> list[list[int]]:
    """Who handed the call to whom, [from, to] each, in the order of the chain."""
    steps = {
        (part["previous_contactID"], part["contactID"])
        for part in told
        if "previous_contactID" in part and "contactID" in part
    }
    chain: list[list[int]] = []
    while steps:
        sources = {step[0] for step in steps} - {step[1] for step in steps}
        here = chain[-1][1] if chain else None
        onward = [step for step in steps if step[0] == here] or [step for step in steps if step[0] in sources] or steps
        step = min(onward)
        steps.remove(step)
        chain.append(list(step))
    return chain
