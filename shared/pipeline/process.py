"""The processor: each event has its effect once, however often and in whatever order messages arrive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from shared import health, people
from shared.bridge import Bridge
from shared.calls import lost_callers
from shared.calls import store as calls
from shared.deliveries.outbox import fan_out
from shared.events import store
from shared.events.event import ReceivedEvent, event_of, event_of_row, row_of
from shared.events.table import event_id
from shared.storage.messages import send
from shared.times import iso

logger = logging.getLogger(__name__)

# Seconds between looks for the call of a voicemail: it names none, but the call began in the same second.
_LINK_DELAYS = (5, 30, 120, 600, 3600)
# The most ends of one employee in one call; later ones count as repeats.
_MOST_ENDS = 20


def _ask_for_media(bridge: Bridge, event: ReceivedEvent) -> bool | None:
    kind = event.type.announces or event.type.withdraws
    if kind is None:
        return None
    message = {
        "kind": kind,
        "id": event.data[f"{kind}ID"],
        "action": "copy" if event.type.announces else "withdraw",
        "event": event.id,
        "callID": event.data.get("callID"),
        "record": event.envelope["data"],
        "inferred": event.origin != "webhook",
        "received": iso(event.received),
        "attempt": 0,
    }
    send(bridge.storage, "media", message, name=event.id)
    return True


# The effects of an event, by their names in column `done` of its row. Each is harmless when done twice and skips events
# of other kinds. True: the row remembers the step, because a second time would cost others work. False: the step is to
# be tried again later. The story is the last, since many events may be changing it at once.
FOLLOW_UPS: Mapping[str, Callable[[Bridge, ReceivedEvent], bool | None]] = {
    "feed": store.publish,
    "deliveries": fan_out,
    "media": _ask_for_media,
    "lost callers": lost_callers.close_answered,
    "story": calls.add_to_story,
}


def process(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """
    Process the event in a message of queue `events`, with one effect (docs/decisions/0001-exactly-one-effect.md).

    Raises the errors of steps once the other steps are done, so that the message is put back.
    """
    event: ReceivedEvent | None
    if message.get("stored"):
        row = store.get(bridge.storage, str(message["id"]))
        event = event_of_row(bridge.storage, row) if row is not None else None
    else:
        event = event_of(message)
    if event is None or _is_forgotten(bridge, event):
        logger.info("event %s is of somebody who was erased since", message["id"])
        return
    if event.from_history and people.is_dropped(bridge.storage, iso(event.began)[:7]):
        logger.info("%s %s is of a month that was dropped", event.type.name, event.id)
        return
    if event.type.waits:
        event = lost_callers.identified(bridge, event)
    mark = str(message.get("mark", ""))
    event, is_new = _place(bridge, event, mark)
    is_ours = is_new or bool(message.get("begun")) or event.row.get("message") == mark
    if is_new or not is_ours:
        health.count_event(bridge.storage, event, repeat=not is_new)
    if is_ours:
        _follow_up(bridge, event, message)
        return
    logger.info("repeat of %s %s", event.type.name, event.id)
    # The event's row stays as it was first stored.
    calls.add_to_story(bridge, event, repeat=True)
    if event.type.withdraws and event.origin == "webhook" != event.row["origin"]:
        # The PBX's own event deletes audio; the stored event, made from its lists, did not.
        _ask_for_media(bridge, event)


def _is_forgotten(bridge: Bridge, event: ReceivedEvent) -> bool:
    moment = min(event.began, event.moment)
    if not people.is_before(bridge.storage, moment):
        return False
    region, sent = bridge.settings.default_region, {**event.envelope, **event.envelope["data"]}
    subjects = {subject for subject, _ in store.pointers(event, region)} | people.loose(sent, event.drift, region)
    for kind, name in (("recording", "recordingID"), ("voicemail", "voicemailID")):
        if name in event.data:
            subjects.add(f"{kind} {event.data[name]}")
    return people.is_forgotten(bridge.storage, subjects - {people.LOOSE}, moment)


def _place(bridge: Bridge, event: ReceivedEvent, mark: str) -> tuple[ReceivedEvent, bool]:
    """
    Insert the event's row, or find it; return the event with its row and id, and True if it is new.

    Each further end of one employee in one call has an id of its own, numbered from 2.
    """
    storage, region = bridge.storage, bridge.settings.default_region
    for end in range(2, _MOST_ENDS + 2):
        row = row_of(storage, event)
        people.add(storage, store.pointers(event, region) | calls.pointers(event, region))
        is_new = store.insert(storage, row, mark)
        stored = row if is_new else store.get(storage, event.id) or row
        if stored["received"] != event.received:
            # A repeat's pointers lead nowhere: the feed has the first message's time.
            people.remove(storage, store.pointers(event, region))
        event = replace(event, row=stored)
        if is_new or not event.is_another_end(storage):
            return event, is_new
        event = replace(event, id=event_id(event.type, event.data, region, occurrence=str(end)))
    return event, False


def _follow_up(bridge: Bridge, event: ReceivedEvent, message: Mapping[str, Any]) -> None:
    """Do the steps that are not done; a failing step neither holds up the others nor repeats them."""
    done, errors, is_kept, waits = set(str(event.row.get("done", "")).split(",")), list[Exception](), False, False
    for name, run in FOLLOW_UPS.items():
        if name in done:
            continue
        try:
            outcome = run(bridge, event)
        except Exception as error:  # noqa: BLE001 - raised below, once the other steps are done
            errors.append(error)
            continue
        if outcome is False:
            waits = True
        else:
            done.add(name)
            is_kept = is_kept or outcome is True
    if is_kept or errors or waits:
        store.update(bridge.storage, event.id, {"done": ",".join(sorted(done - {""}))})
    if errors:
        raise ExceptionGroup("follow-ups failed", errors)
    if waits:
        _look_for_call_later(bridge, event, message)


def _look_for_call_later(bridge: Bridge, event: ReceivedEvent, message: Mapping[str, Any]) -> None:
    resumed = int(message.get("resume", 0))
    if resumed >= len(_LINK_DELAYS):
        logger.info("%s %s stays without a call", event.type.name, event.id)
        return
    # A waiting message must have no body with numbers: an erasure cannot search a queue.
    later = {name: value for name, value in message.items() if name != "body"}
    later |= {"id": event.id, "stored": True, "begun": True, "resume": resumed + 1}
    send(bridge.storage, "events", later, name=event.id, delay=_LINK_DELAYS[resumed])
