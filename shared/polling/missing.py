"""Events of polled items whose webhook never came, and completion of those that did from the PBX's lists."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from shared import health
from shared.calls.store import calls
from shared.calls.stories import story_of
from shared.events import store
from shared.events.event import Data, check_envelope, row_envelope, submit
from shared.events.table import event_id, event_named, wanted_events
from shared.identifiers import identifier
from shared.pbx.resources import resource
from shared.phones import e164
from shared.polling import malformed
from shared.polling.reading import as_event, connected_at, ended_at
from shared.times import event_time
from shared.webhooks.table import ended_since

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from shared.bridge import Bridge
    from shared.calls.stories import Part, Story
    from shared.events.table import Event
    from shared.items.store import Item
    from shared.polling.malformed import Malformed
    from shared.polling.reading import Reading

    Missing = Callable[[Bridge, int, Item], "Found"]

logger = logging.getLogger(__name__)

Counts = Counter[str]
_AT_ONCE = 8
# Webhooks say how many seconds somebody talked, the history when it ended: they differ by one.
_ROUNDING = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """
    The events that are missing of a polled item, each with its data.

    `more` are repeats of events that came, each with its data and that event's id: they say what it lacks.
    """

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    more: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)


def submit_missing(reading: Reading, listed: Mapping[int, Item], origin: str) -> Counts:
    """
    Submit the events of items whose webhook has not come, under the ids that those would have had; count them.

    A late webhook is a repeat then. What a list knows beyond an event that came completes it, as a repeat.
    """
    storage, found = reading.bridge.storage, list["Malformed"]()
    with ThreadPoolExecutor(_AT_ONCE if len(listed) > _AT_ONCE else 1) as pool:
        missing = dict(zip(listed, pool.map(partial(_look, reading, found), listed.items()), strict=True))
        # A month may have been dropped meanwhile: nothing of it comes back.
        kept = dict(reading.kept(listed.items()))
        counts = pool.map(partial(submit_found, reading, origin, found), [missing[id] for id in kept])
        count = sum(counts)
    # Here: the host drops what threads log that it does not know.
    for reason, item in found:
        malformed.keep(storage, reading.resource.name, reason, item)
    return Counts({origin: count})


def alarm_if_lost(reading: Reading, counts: Counts) -> None:
    """Log the signal of webhooks that never came; without an address for them, or after their end, there are none."""
    bridge, count = reading.bridge, counts["reconciled"]
    if count and bridge.settings.public_base_url and not ended_since(bridge.storage):
        logger.warning("signal webhook_loss resource=%s events=%d", reading.resource.name, count)


def _look(reading: Reading, found: list[Malformed], pair: tuple[int, Item]) -> Found:
    id, item = pair
    with malformed.set_aside(item, found):
        return MISSING[reading.resource.name](reading.bridge, id, item)
    return Found()


def submit_found(reading: Reading, origin: str, malformed_items: list[Malformed], found: Found) -> int:
    """Submit the events that PBX_EVENTS wants, and the repeats; those that make no event are appended."""
    bridge = reading.bridge
    wanted = {event.name for event in wanted_events(bridge.settings.pbx_events)}
    events = [(name, data, None) for name, data in found.events if name in wanted]
    for name, data, id in (*events, *found.more):
        with malformed.set_aside({"eventType": name, "data": dict(data)}, malformed_items):
            submit(bridge.storage, bridge.settings, name, data, origin=origin, id=id)
    return len(events)


def _of_call(bridge: Bridge, number: int, item: Item) -> Found:
    """
    Return the events that the call's story lacks: its end, what led to it, and a repeat of an end that has less.

    A call that was answered ends once, and one that nobody answered for each one it rang. Ids alone would not do:
    history may name another employee than the webhook did. While the call goes on, its end is not announced; after an
    end has come, what should have led to it is only counted.
    """
    row, region = resource("call_history"), bridge.settings.default_region
    gathered = calls(bridge.storage, region).gathered(number)
    parts, story = list(gathered.parts.values()), story_of(number, gathered, region)
    names = {part["event"] for part in parts}
    completed, goes_on = "CallCompleted" in names, story["outcome"] in ("ringing", "talking")
    answered = connected_at(item) is not None or "CallConnected" in names
    led = [name for name in ("CallStarted", "CallConnected") if name == "CallStarted" or answered]
    lost = [name for name in led if name not in names]
    found = [] if completed else [(name, as_event(item, row, name)) for name in lost]
    if ended_at(item) is None and goes_on:
        return Found(events=found)
    if completed:
        _count_losses(bridge, item, parts, lost)
    if ended_at(item) is None:
        return Found(events=found)
    end = as_event(item, row, "CallCompleted")
    ends = _ends(item, parts, end, answered=answered) if goes_on or not completed else []
    found += [("CallCompleted", data) for data in ends]
    more = completed and not ends and _says_more(item, story, region)
    return Found(events=found, more=[_completion(parts, item, end)] if more else [])


def _ends(item: Item, parts: Sequence[Part], end: dict[str, Any], *, answered: bool) -> list[dict[str, Any]]:
    """Return the ends that are missing, one for each contact; that of an unreadable employee as it is."""
    rung, ended = _contacts(parts, "CallStarted"), _contacts(parts, "CallCompleted")
    own, first = identifier(item.get("contactID")), all(part["event"] != "CallCompleted" for part in parts)
    contacts = {own} if answered else rung | ({own} if first else set())
    missing = sorted(contacts - ended - {None}, key=str)
    return [{**end, "contactID": contact} for contact in missing] or ([end] if first else [])


def _completion(parts: Sequence[Part], item: Item, end: Mapping[str, Any]) -> tuple[str, dict[str, Any], str]:
    """Return the history item as a repeat of an end that came: its own employee's, where there is one."""
    own = identifier(item.get("contactID"))
    ends = sorted((part for part in parts if part["event"] == "CallCompleted"), key=lambda part: str(part["id"]))
    chosen = next((part for part in ends if own is not None and part.get("contactID") == own), ends[0])
    kept = {name: value for name, value in end.items() if name != "contactID"}
    same = {"contactID": chosen["contactID"]} if "contactID" in chosen else {}
    return "CallCompleted", kept | same, chosen["id"]


def _says_more(item: Item, story: Story, region: str) -> bool:
    """True if history has a value of the call that its story lacks, or has another one."""
    texts = (
        (_number(item.get("caller"), region), story["callerE164"] or story["caller"]),
        (_number(item.get("destination"), region), story["destinationE164"] or story["destination"]),
        (str(item.get("direction") or "").lower(), (story["direction"] or "").lower()),
    )
    if any(said and said != had for said, had in texts):
        return True
    times = (
        (event_time(item.get("callStarted")), story["started"]),
        (connected_at(item), story["connected"]),
        (ended_at(item), story["ended"]),
    )
    return any(said and (had is None or abs(said - had) > _ROUNDING) for said, had in times)


def _number(value: Any, region: str) -> str | None:
    text = str(value or "")
    return e164(text, region) or text


def _count_losses(bridge: Bridge, item: Item, parts: Sequence[Part], lost: Iterable[str]) -> None:
    """Count webhooks that led to an end which came; a transfer shows as an end with another employee only."""
    for name in lost:
        health.missed(bridge.storage, name)
    connected, moved = _contacts(parts, "CallConnected"), {part["event"] for part in parts} & {"CallTransfered"}
    own = identifier(item.get("contactID"))
    if connected and own is not None and own not in connected and not moved:
        health.missed(bridge.storage, "CallTransfered")


def _contacts(parts: Iterable[Part], event: str) -> set[Any]:
    found = (identifier(part["contactID"]) for part in parts if part["event"] == event and "contactID" in part)
    return {contact for contact in found if contact is not None}


def _announced(bridge: Bridge, number: int, item: Item, *, name: str, source: str) -> Found:
    """Return the event of an item that is announced once, unless it is there with all that the list has."""
    event, data = event_named(name), as_event(item, resource(source), name)
    identity = event_id(event, Data(**{event.key[0]: number}), "")
    there = store.get(bridge.storage, identity)
    if there is None:
        return Found(events=[(name, data)])
    envelope = row_envelope(bridge.storage, there)
    return Found(more=[(name, data, identity)] if _lacks(event, envelope["data"], data) else [])


def _lacks(event: Event, known: Mapping[str, Any], listed: Mapping[str, Any]) -> bool:
    had, said = (check_envelope(event, {"data": dict(data)})[1] for data in (known, listed))
    return any(field.name in said and field.name not in had for field in event.model.fields)


MISSING: Mapping[str, Missing] = {
    "call_history": _of_call,
    "call_records": partial(_announced, name="CallRecorded", source="call_records"),
    "voicemails": partial(_announced, name="VoicemailCreated", source="voicemails"),
}
