"""An outbox filled at once: events that a subscriber has not had, as though they had come while it was gone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.deliveries.outbox import Outbox
from shared.events.store import PARTITION, TABLE
from shared.json_bodies import encode
from shared.times import now

if TYPE_CHECKING:
    from shared.storage.account import Storage

BODY = encode({"type": "Event", "eventType": "CallCompleted", "version": "v1", "data": {"callID": 1}})
_PART = 100


def fill(storage: Storage, subscription: str, count: int) -> list[str]:
    """Put so many events into a subscription's outbox; their ids, the oldest first."""
    first = now() - timedelta(seconds=1)
    columns = {"type": "CallCompleted", "origin": "webhook", "received": first, "happened": first}
    columns["body"] = BODY.decode()
    ids = [f"event{number:06d}" for number in range(count)]
    for start in range(0, count, _PART):
        part = ids[start : start + _PART]
        made: list[Any] = [("create", {"PartitionKey": PARTITION, "RowKey": id, "id": id, **columns}) for id in part]
        storage.table(TABLE).submit_transaction(made)
        moments = (first + timedelta(microseconds=start + number) for number in range(len(part)))
        Outbox(storage, subscription).put(list(zip(moments, part, strict=True)))
    return ids
