"""Processing of events, from the queue to the merged story, against the bare storage calls."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dev.azurite import AzuriteProcess
from dev.bench.app import bridge_to
from dev.bench.figures import Figure, at_least, at_most, median_ratio, seconds
from dev.counting import counted
from shared.bridge import Bridge
from shared.events.event import accept
from shared.events.table import event_named
from shared.pipeline.process import process
from shared.storage.messages import read

_CALLS = 100
_EVENTS = ("CallStarted", "CallConnected", "CallCompleted")
_WORKERS = 16
_ids: Iterator[int] = itertools.count(1524664459097344)


def _send(bridge: Bridge, calls: int, ids: Iterator[int]) -> None:
    times = {"callStarted": "2018-04-25T13:54:19+0000", "callConnected": "2018-04-25T13:54:31+0000"}
    for _ in range(calls):
        call = next(ids)
        for event in _EVENTS:
            data = {"callID": call, "caller": "27771153", "destination": "67000123", "contactID": 966, **times}
            body = json.dumps({"type": "Event", "eventType": event, "version": "v1", "data": data}).encode()
            accept(bridge, event_named(event), body)


def _drain(bridge: Bridge, handle: Callable[[bytes], Any]) -> None:
    queue = bridge.storage.queue("events")

    def work(message: Any) -> None:
        handle(message.content.encode())
        queue.delete_message(message)

    with ThreadPoolExecutor(_WORKERS) as pool:
        while batch := list(next(queue.receive_messages(messages_per_page=32).by_page(), [])):
            list(pool.map(work, batch))


def _bare(bridge: Bridge) -> Callable[[bytes], None]:
    """
    Return a handler that makes the fewest possible storage calls for an event.

    They are a new event row, the call's row, the feed's row, and a transaction of the index with the event's pointers;
    the first event of a call adds a transaction with the call's pointers.
    """
    numbers = itertools.count()

    def handle(body: bytes) -> None:
        message = json.loads(body)
        key = f"{message['id']}-{next(numbers)}"
        row = {"body": json.dumps(message["body"]), "type": message["event"], "id": key}
        bridge.storage.table("events").create_entity({"PartitionKey": "bare", "RowKey": key, **row})
        call = {"PartitionKey": "bare", "RowKey": str(message["body"]["data"]["callID"]), **row}
        bridge.storage.table("calls").upsert_entity(call)
        bridge.storage.table("feed").upsert_entity({"PartitionKey": "bare", "RowKey": key, **row})
        for kind in ("event", "call")[: 2 if message["event"] == _EVENTS[0] else 1]:
            pointers = [{"PartitionKey": "bare", "RowKey": f"{subject}-{kind}-{key}"} for subject in "abcd"]
            bridge.storage.table("numbers").submit_transaction([("upsert", one) for one in pointers])

    return handle


def _ratio(bridge: Bridge) -> float:
    def ours() -> float:
        _send(bridge, _CALLS, _ids)
        return seconds(lambda: _drain(bridge, lambda body: process(bridge, read(bridge.storage, body))))

    def limit() -> float:
        _send(bridge, _CALLS, _ids)
        return seconds(lambda: _drain(bridge, _bare(bridge)))

    return 1 / median_ratio(ours, limit)


def _operations(bridge: Bridge) -> float:
    """Return the storage requests of a new event, as counted by the HTTP adapter."""
    counting = counted(bridge.storage)
    _send(bridge, _CALLS, _ids)
    _drain(bridge, lambda body: process(bridge, read(bridge.storage, body)))
    return counting.count / (_CALLS * len(_EVENTS))


def figures() -> list[Figure]:
    """Return the throughput of the processor, and its storage operations."""
    # On disk, since the in-memory emulator pauses after some thousand rows.
    with TemporaryDirectory() as data, AzuriteProcess(location=Path(data)) as azurite:
        ratio = _ratio(bridge_to(azurite.connection_string))
        operations = _operations(bridge_to(azurite.connection_string))
    return [
        at_least("Processing: events from queue to merged story", "the bare storage calls it needs", ratio, 0.7),
        at_most("Storage operations an event, queue included", "counted", operations, 7),
    ]
