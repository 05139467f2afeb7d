"""The processor: each event has its effect once, however often and in whatever order its message comes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import health
from shared.calls.store import call_of, calls
from shared.events.event import Fact, fact_of
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
    run: Callable[[Bridge, Fact, Row], bool | None]
    applies: Callable[[Fact], bool] = lambda fact: True
    recorded: bool = False


def _tell_story(bridge: Bridge, fact: Fact, row: Row) -> bool:
    stories = calls(bridge.storage, bridge.settings.default_region)
    call_id = call_of(fact, stories)
    if call_id is None:
        return False
    stories.merge(call_id, fact)
    return True


def _belongs_to_a_call(fact: Fact) -> bool:
    if getattr(fact.data, "callID", None) is not None:
        return True
    return hasattr(fact.data, "voicemailID") and fact.data.moment is not None


def _ask_for_media(bridge: Bridge, fact: Fact, row: Row) -> bool:
    kind = fact.event.announces or fact.event.withdraws
    message = {
        "kind": kind,
        "id": getattr(fact.data, f"{kind}ID"),
        "action": "copy" if fact.event.announces else "withdraw",
        "event": fact.id,
        "callID": getattr(fact.data, "callID", None),
        "received": iso(fact.received),
        "first": iso(fact.received),
        "attempt": 0,
    }
    send(bridge.storage, "media", message, name=fact.id)
    return True


def _fan_out(bridge: Bridge, fact: Fact, row: Row) -> bool | None:
    from shared.deliveries.fanout import fan_out

    return fan_out(bridge, fact) or None


def _feed(bridge: Bridge, fact: Fact, row: Row) -> bool:
    # Newest first: a table's rows come in the order of their keys.
    keys = {"PartitionKey": FEED, "RowKey": f"{feed_position(row['received'])}-{fact.id}"}
    bridge.storage.table(FEED).upsert_entity({**row, **keys})
    return True


FOLLOW_UPS: tuple[FollowUp, ...] = (
    FollowUp(name="story", run=_tell_story, applies=_belongs_to_a_call),
    FollowUp(
        name="media",
        run=_ask_for_media,
        applies=lambda fact: bool(fact.event.announces or fact.event.withdraws),
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
    fact = fact_of(message)
    row = fact.row(bridge.storage, bridge.settings.default_region)
    if _insert(bridge, fact, row):
        health.note(bridge.storage, fact, repeat=False)
    elif attempt > 1 or message.get("resume"):
        row = _stored(bridge, fact)
    else:
        health.note(bridge.storage, fact, repeat=True)
        logger.info("repeat of %s %s", fact.event.name, fact.id)
        return
    _follow_up(bridge, fact, row, message)


def _insert(bridge: Bridge, fact: Fact, row: Row) -> bool:
    """Insert the event's row; False when another message did, and its follow-ups are not ours to do."""
    from azure.core.exceptions import ResourceExistsError, ServiceRequestError, ServiceResponseError

    table, entity = bridge.storage.table(TABLE), {"PartitionKey": PARTITION, "RowKey": fact.id, **row}
    try:
        # A silent retry whose first try went through would read as a repeat, and the event's effect would be lost.
        table.create_entity(entity, retry_total=0)
    except ResourceExistsError:
        return False
    except (ServiceRequestError, ServiceResponseError):
        # Perhaps it is written: writing it again and following up twice is harmless.
        table.upsert_entity(entity)
    return True


def _stored(bridge: Bridge, fact: Fact) -> Row:
    row = dict(bridge.storage.table(TABLE).get_entity(PARTITION, fact.id))
    return {name: value for name, value in row.items() if name not in ("PartitionKey", "RowKey")}


def _follow_up(bridge: Bridge, fact: Fact, row: Row, message: Mapping[str, Any]) -> None:
    done = set(filter(None, str(row.get("done", "")).split(",")))
    before, later = set(done), []
    for step in FOLLOW_UPS:
        if step.name in done or not step.applies(fact):
            continue
        outcome = step.run(bridge, fact, row)
        if outcome is False:
            later.append(step.name)
        elif outcome and step.recorded:
            done.add(step.name)
    if later:
        _resume_later(bridge, fact, message, later)
    if done != before:
        mark = {"PartitionKey": PARTITION, "RowKey": fact.id, "done": ",".join(sorted(done))}
        bridge.storage.table(TABLE).update_entity(mark)


def _resume_later(bridge: Bridge, fact: Fact, message: Mapping[str, Any], steps: list[str]) -> None:
    resumed = int(message.get("resume", 0))
    if resumed >= len(_LINK_DELAYS):
        logger.info("%s %s stays without %s", fact.event.name, fact.id, ", ".join(steps))
        return
    again = {**message, "resume": resumed + 1}
    send(bridge.storage, "events", again, name=fact.id, delay=_LINK_DELAYS[resumed])
