"""Helpers of the tests of deliveries: subscriptions, events, and an outbox whose time is set by the test."""

from __future__ import annotations

import json
import pathlib
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.bridge import Bridge
from shared.deliveries.drain import drain
from shared.deliveries.outbox import EPOCH, STATE, TABLE, Outbox, State
from shared.events import store
from shared.events.event import submit
from shared.pipeline.process import process
from shared.subscriptions import Subscription, subscriptions
from shared.times import now
from shared.values import encode

if TYPE_CHECKING:
    from tests.outbox import Outbox as Sent
    from tests.outbox import Sent as Message

BODY = encode({"type": "Event", "eventType": "CallCompleted", "version": "v1", "data": {"callID": 1}})
FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "events"


def subscription(bridge: Bridge, endpoint: str, **changes: Any) -> Subscription:
    one = Subscription.new(event="CallCompleted", endpoint=endpoint)
    return subscriptions(bridge).make(replace(one, **changes))


def happen(bridge: Bridge, sent: Sent, event: str = "CallCompleted", **changes: Any) -> list[Message]:
    """Process an event; the messages that it puts on queue `deliveries`."""
    data = json.loads((FIXTURES / f"{event}.json").read_text())["data"]
    submit(bridge, event, data | {"callID": time.time_ns()} | changes, origin="webhook")
    for message in sent.take("events"):
        process(bridge, message.message)
    return sent.take()


def state(bridge: Bridge, one: Subscription) -> State:
    return Outbox(bridge.storage, one.id).state()


def places(bridge: Bridge, one: Subscription) -> list[dict[str, Any]]:
    """Return the rows that wait in the outbox, due or not."""
    condition = f"PartitionKey eq '{one.id}' and RowKey ge 'place-' and RowKey lt 'sent-'"
    return [dict(row) for row in bridge.storage.table(TABLE).query_entities(condition)]


def markers(bridge: Bridge, one: Subscription) -> list[dict[str, Any]]:
    condition = f"PartitionKey eq '{one.id}' and RowKey ge 'sent-'"
    return [dict(row) for row in bridge.storage.table(TABLE).query_entities(condition)]


def set_state(bridge: Bridge, one: Subscription, **columns: Any) -> None:
    row = state(bridge, one).row(one.id) | columns
    bridge.storage.table(TABLE).upsert_entity(row, mode="replace")


def let_time_pass(bridge: Bridge, one: Subscription) -> None:
    """Have everything be due that waits for its time, and every lease be over."""
    table = bridge.storage.table(TABLE)
    for row in places(bridge, one):
        table.update_entity(row | {"due": EPOCH})
    if state(bridge, one).etag:
        keys = {"PartitionKey": one.id, "RowKey": STATE}
        table.update_entity(keys | {"resume": EPOCH, "until": EPOCH})


def later(bridge: Bridge, sent: Sent, one: Subscription) -> list[Message]:
    """Drain when everything is due; the messages that are put on the queue by that."""
    let_time_pass(bridge, one)
    return drained(bridge, sent, one)


def drained(bridge: Bridge, sent: Sent, one: Subscription) -> list[Message]:
    """Drain now; the messages that are put on the queue by that."""
    drain(bridge, one.id)
    return sent.take()


def fail_since(bridge: Bridge, one: Subscription, since: timedelta) -> None:
    """Have nothing got through for so long."""
    set_state(bridge, one, failures=9, failing=now() - since)


def fill(bridge: Bridge, one: Subscription, count: int) -> None:
    """Put events into an outbox, without a wake-up."""
    first, found = now() - timedelta(seconds=1), []
    for number in range(count):
        id, received = f"event{number:06d}", first + timedelta(microseconds=number)
        row = {"id": id, "type": "CallCompleted", "origin": "webhook", "received": received, "happened": first}
        store.insert(bridge.storage, row | {"body": BODY.decode()}, "")
        found.append((received, id))
    Outbox(bridge.storage, one.id).put(found)
