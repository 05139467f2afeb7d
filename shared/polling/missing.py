"""Events of polled items whose webhook never came, and completion of those that did from the PBX's lists."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from shared import health, webhooks
from shared.calls.store import calls
from shared.calls.stories import UNENDED, story_of
from shared.events import store
from shared.events.event import Data, check_envelope, row_envelope, submit
from shared.events.table import event_id, event_named, wanted_events
from shared.pbx.resources import resource
from shared.polling.run import as_event
from shared.values import e164

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shared.bridge import Bridge
    from shared.calls.stories import Part, Story
    from shared.items.store import Item
    from shared.polling.run import Run

    # An event's name and data, and the id of the one that it repeats.
    Missing = tuple[str, dict[str, Any], str | None]

logger = logging.getLogger(__name__)

# Webhooks say how many seconds somebody talked, the history when it ended: they differ by one.
_ROUNDING = timedelta(seconds=1)


def submit_missing(run: Run, items: Mapping[int, Item], origin: str) -> None:
    """
    Submit the events of items whose webhook has not come, under the ids that those would have had.

    A late webhook is a repeat then. What a list knows beyond an event that came completes it, as a repeat.
    """
    find = FINDERS[run.resource.name]

    def restore(id: int, item: Item) -> int:
        found = find(run.bridge, id, item)
        # Its month may have been dropped meanwhile: nothing of it comes back.
        return submit_wanted(run, found, origin) if run.keeps(item) else 0

    count = run.for_each(restore, items.items())
    if origin == "reconciled":
        alarm_if_lost(run, count)


def submit_wanted(run: Run, found: Sequence[Missing], origin: str) -> int:
    """Submit the events that PBX_EVENTS wants, and the repeats; return the number of those events."""
    bridge, count = run.bridge, 0
    wanted = {event.name for event in wanted_events(bridge.settings.pbx_events)}
    for name, data, repeated in found:
        if repeated or name in wanted:
            submit(bridge, name, data, origin=origin, id=repeated)
            count += not repeated
    return count


def alarm_if_lost(run: Run, count: int) -> None:
    """Log the signal of webhooks that never came; without an address for them, or after their end, there are none."""
    if count and run.bridge.settings.public_base_url and not webhooks.read(run.bridge.storage)[1]:
        logger.warning("signal webhook_loss resource=%s events=%d", run.resource.name, count)


def _of_call(bridge: Bridge, number: int, item: Item) -> list[Missing]:
    """
    Return the events that the call's story lacks: its end, what led to it, and a repeat of an end that has less.

    A call that was answered ends once, and one that nobody answered for each one it rang. Ids alone would not do:
    history may name another employee than the webhook did. While the call goes on, its end is not announced; after an
    end has come, what should have led to it is only counted.
    """
    row, region = resource("call_history"), bridge.settings.default_region
    gathered = calls(bridge.storage, region).gathered(number)
    parts, story = list(gathered.parts.values()), story_of(number, gathered, region)
    end = as_event(item, row, "CallCompleted")
    said = check_envelope(event_named("CallCompleted"), {"data": end})[1]
    names = {part["event"] for part in parts}
    goes_on, completed = story["outcome"] in UNENDED, "CallCompleted" in names
    answered = "callConnected" in said or "CallConnected" in names
    lost = {"CallStarted", *(["CallConnected"] if answered else [])} - names
    found: list[Missing] = []
    if not completed:
        found = [(name, as_event(item, row, name), None) for name in sorted(lost, reverse=True)]
    elif "callEnded" in said or not goes_on:
        _count_losses(bridge, said, parts, lost)
    if "callEnded" not in said:
        return found
    contacts = {said.get("contactID")} if answered or not completed else set[int | None]()
    contacts |= set() if answered else _contacts(parts, "CallStarted")
    contacts -= _contacts(parts, "CallCompleted")
    left = sorted(filter(None, contacts)) if goes_on or not completed else []
    if left or not completed:
        ends = [{**end, "contactID": contact} for contact in left] or [end]
        return found + [("CallCompleted", data, None) for data in ends]
    return [_completion(parts, said, end)] if _says_more(said, story, region) else []


def _contacts(parts: Sequence[Part], event: str) -> set[int | None]:
    return {part["contactID"] for part in parts if part["event"] == event and "contactID" in part}


def _count_losses(bridge: Bridge, said: Data, parts: Sequence[Part], lost: set[str]) -> None:
    """Count webhooks that led to an end which came; a transfer shows as an end with another employee only."""
    connected, moved = _contacts(parts, "CallConnected"), any(part["event"] == "CallTransfered" for part in parts)
    if connected and said.get("contactID") not in {None, *connected} and not moved:
        lost = lost | {"CallTransfered"}
    for name in lost:
        health.missed(bridge.storage, name)


def _completion(parts: Sequence[Part], said: Data, end: Mapping[str, Any]) -> Missing:
    """Return the history item as a repeat of an end that came: of its own employee's, where there is one."""
    ends = [part for part in parts if part["event"] == "CallCompleted"]
    chosen = min(ends, key=lambda part: (part.get("contactID") != said.get("contactID"), part["id"]))
    data = {name: value for name, value in end.items() if name != "contactID"}
    data |= {"contactID": chosen["contactID"]} if "contactID" in chosen else {}
    return "CallCompleted", data, chosen["id"]


def _says_more(said: Data, story: Story, region: str) -> bool:
    """Return True if history has a value of the call that its story lacks, or another one."""
    for mine, theirs in (
        (said.get("caller"), story["caller"]),
        (said.get("destination"), story["destination"]),
        (said.get("direction"), story["direction"]),
    ):
        known = theirs or ""
        if mine and (e164(mine, region) or mine.lower()) != (e164(known, region) or known.lower()):
            return True
    times = (
        (said.get("callStarted"), story["started"]),
        (said.get("callConnected"), story["connected"]),
        (said.get("callEnded"), story["ended"]),
    )
    return any(mine and (theirs is None or abs(mine - theirs) > _ROUNDING) for mine, theirs in times)


def _announced(bridge: Bridge, number: int, item: Item, *, name: str, source: str) -> list[Missing]:
    """Return the event of an item that is announced once, unless it is there with all that the list has."""
    event, data = event_named(name), as_event(item, resource(source), name)
    identity = event_id(event, Data(**{event.key[0]: number}), "")
    there = store.get(bridge.storage, identity)
    if there is None:
        return [(name, data, None)]
    known = row_envelope(bridge.storage, there)["data"]
    had, said = (check_envelope(event, {"data": dict(one)})[1] for one in (known, data))
    lacks = any(field.name in said and field.name not in had for field in event.model.fields)
    return [(name, data, identity)] if lacks else []


FINDERS: Mapping[str, Callable[[Bridge, int, Item], list[Missing]]] = {
    "call_history": _of_call,
    "call_records": partial(_announced, name="CallRecorded", source="call_records"),
    "voicemails": partial(_announced, name="VoicemailCreated", source="voicemails"),
}
