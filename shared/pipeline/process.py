"""The processor: each event has its effect once, however often and in whatever order its message comes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import health
from shared.calls.store import call_of, calls
from shared.events.event import ReceivedEvent, event_of
from shared.events.store import FEED, PARTITION, TABLE, feed_position
from shared.storage.messages import read, send
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.bridge import Bridge

logger = logging.getLogger(__name__)

# A voicemail names no call: it waits for the call that began in the same second, seconds each time.
_LINK_DELAYS = (5, 30, 120, 600, 3600)

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowUp:
    """
    A row: something that an event sets off.

    `run` returns False when it has to be tried again later, and None when there was nothing to do. What it does
    must be harmless when done twice; where that costs the next in line work, `recorded` has the event's row
    remember that it is done. The others leave their own mark, under a key made of the event's id.
    """

    name: str
    run: Callable[[Bridge, ReceivedEvent, Row], bool | None]
    applies: Callable[[ReceivedEvent], bool] = lambda event: True
    recorded: bool = False


def _tell_story(bridge: Bridge, event: ReceivedEvent, row: Row) -> bool:
    stories = calls(bridge.storage, bridge.settings.default_region)
    call_id = call_of(event, stories)
    if call_id is None:
        return False
    stories.merge(call_id, event)
    return True


def _belongs_to_a_call(event: ReceivedEvent) -> bool:
    if getattr(event.data, "callID", None) is not None:
        return True
    return hasattr(event.data, "voicemailID") and event.data.moment is not None


def _ask_for_media(bridge: Bridge, event: ReceivedEvent, row: Row) -> bool:
    kind = event.type.announces or event.type.withdraws
    message = {
        "kind": kind,
        "id": getattr(event.data, f"{kind}ID"),
        "action": "copy" if event.type.announces else "withdraw",
        "event": event.id,
        "callID": getattr(event.data, "callID", None),
        "record": event.envelope["data"],
        "received": iso(event.received),
        "first": iso(event.received),
        "attempt": 0,
    }
    send(bridge.storage, "media", message, name=event.id)
    return True


def _fan_out(bridge: Bridge, event: ReceivedEvent, row: Row) -> bool | None:
    from shared.deliveries.fanout import fan_out

    return fan_out(bridge, event) or None


def _feed(bridge: Bridge, event: ReceivedEvent, row: Row) -> bool:
    # Newest first: a table's rows come in the order of their keys.
    keys = {"PartitionKey": FEED, "RowKey": f"{feed_position(row['received'])}-{event.id}"}
    bridge.storage.table(FEED).upsert_entity({**row, **keys})
    return True


FOLLOW_UPS: tuple[FollowUp, ...] = (
    FollowUp(name="story", run=_tell_story, applies=_belongs_to_a_call),
    FollowUp(
        name="media",
        run=_ask_for_media,
        applies=lambda event: bool(event.type.announces or event.type.withdraws),
        recorded=True,
    ),
    FollowUp(name="deliveries", run=_fan_out, recorded=True),
    FollowUp(name="feed", run=_feed),
)


def process(bridge: Bridge, body: bytes, attempt: int) -> None:
    """
    Give the event in a message of queue `events` its effect; `attempt` is the queue's dequeue count.

    Whoever inserts the row does the follow-ups. A message that finds the row there on its first delivery is a
    repeat, and does nothing: the first one is still in the queue if it did not finish. A message that was
    delivered before, or that says `resume`, finishes what is left.
    """
    message = read(bridge.storage, body)
    event = event_of(message)
    row = event.row(bridge.storage, bridge.settings.default_region)
    if _insert(bridge, event, row):
        health.note(bridge.storage, event, repeat=False)
    elif attempt > 1 or message.get("resume"):
        row = _stored(bridge, event)
    else:
        health.note(bridge.storage, event, repeat=True)
        logger.info("repeat of %s %s", event.type.name, event.id)
        return
    _follow_up(bridge, event, row, message)


def _insert(bridge: Bridge, event: ReceivedEvent, row: Row) -> bool:
    """Insert the event's row; False when another message did, and its follow-ups are not ours to do."""
    from azure.core.exceptions import ResourceExistsError, ServiceRequestError, ServiceResponseError

    table, entity = bridge.storage.table(TABLE), {"PartitionKey": PARTITION, "RowKey": event.id, **row}
    try:
        # A silent retry whose first try went through would read as a repeat, and the event's effect would be lost.
        table.create_entity(entity, retry_total=0)
    except ResourceExistsError:
        return False
    except (ServiceRequestError, ServiceResponseError):
        # Perhaps it is written: writing it again and following up twice is harmless.
        table.upsert_entity(entity)
    return True


def _stored(bridge: Bridge, event: ReceivedEvent) -> Row:
    row = dict(bridge.storage.table(TABLE).get_entity(PARTITION, event.id))
    return {name: value for name, value in row.items() if name not in ("PartitionKey", "RowKey")}


def _follow_up(bridge: Bridge, event: ReceivedEvent, row: Row, message: Mapping[str, Any]) -> None:
    done = set(filter(None, str(row.get("done", "")).split(",")))
    before, later = set(done), []
    for step in FOLLOW_UPS:
        if step.name in done or not step.applies(event):
            continue
        outcome = step.run(bridge, event, row)
        if outcome is False:
            later.append(step.name)
        elif outcome and step.recorded:
            done.add(step.name)
    if later:
        _resume_later(bridge, event, message, later)
    if done != before:
        mark = {"PartitionKey": PARTITION, "RowKey": event.id, "done": ",".join(sorted(done))}
        bridge.storage.table(TABLE).update_entity(mark)


def _resume_later(bridge: Bridge, event: ReceivedEvent, message: Mapping[str, Any], steps: list[str]) -> None:
    resumed = int(message.get("resume", 0))
    if resumed >= len(_LINK_DELAYS):
        logger.info("%s %s stays without %s", event.type.name, event.id, ", ".join(steps))
        return
    again = {**message, "resume": resumed + 1}
    send(bridge.storage, "events", again, name=event.id, delay=_LINK_DELAYS[resumed])
