"""Who has to do with a call, its recordings and its voicemails, as far as its events say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.calls.parts import best
from shared.events.parties import Entry, contact_party, number_party
from shared.times import call_start, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.calls.parts import Gathered
    from shared.events.event import ReceivedEvent
    from shared.events.parties import Kind

_NUMBERS = ("caller", "destination")
_CONTACTS = ("contactID", "previous_contactID")
_MEDIA: tuple[tuple[Kind, str], ...] = (("recording", "recordingID"), ("voicemail", "voicemailID"))


def involved(call_id: int, gathered: Gathered, region: str) -> set[tuple[str, Entry]]:
    """Each number and employee with the call and with what was recorded in it; nobody while its start is unknown."""
    parts = list(gathered.parts.values())
    said = best("callStarted", parts)[0]
    started = call_start(call_id) or (parse_time(said) if said else None)
    if started is None or not parts:
        return set()
    people = {number_party(part[name], region) for part in parts for name in _NUMBERS if name in part}
    people |= {contact_party(part[name]) for part in parts for name in _CONTACTS if name in part}
    if not any("caller" in part for part in parts):
        people.add(number_party(None, region))
    media = {(kind, part[name]) for kind, name in _MEDIA for part in parts if name in part}
    things = {Entry(kind, str(id), started) for kind, id in {("call", call_id), *media}}
    return {(person, thing) for person in people for thing in things}


def involved_alone(event: ReceivedEvent, region: str) -> set[tuple[str, Entry]]:
    """The same of an event that names no call: a lost caller, or a voicemail whose call is not found yet."""
    numbers = {event.caller, getattr(event.data, "destination", None)} - {None}
    return {(number_party(number, region), thing) for number in numbers for thing in _alone(event)}


def _alone(event: ReceivedEvent) -> Iterable[Entry]:
    if event.type.case == "lost":
        return [Entry("lost caller", event.id, event.moment)]
    # Where it was entered before, also once its audio is stored.
    started = getattr(event.data, "callStarted", None) or event.moment
    ids = {kind: getattr(event.data, name, None) for kind, name in _MEDIA}
    return [Entry(kind, str(id), started) for kind, id in ids.items() if id is not None]
