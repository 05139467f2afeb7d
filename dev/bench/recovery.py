"""Recovery: how long what piled up while tables were gone takes, against the same events with nothing gone."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dev.bench.figures import at_most
from dev.drill.world import FIRST_CALL, call_data, world
from shared.storage.retries import STORAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.bench.figures import Figure
    from dev.drill.world import World

_EVENTS = 1000
# Long enough for the waits to have grown to their longest.
_OUTAGE_SECONDS = 150.0
_PATIENCE_SECONDS = 300.0
_SENDERS = 16


def figures(events: int = _EVENTS, outage: float = _OUTAGE_SECONDS) -> list[Figure]:
    """One, as a ratio."""
    calls = itertools.count(FIRST_CALL)
    with world({}, seed=1, outage=outage, events=events) as running:
        plain = _send(running, calls, events) + _emptied(running)
        with running.without("Table", fault="close"):
            sent = _send(running, calls, events)
            time.sleep(max(0.0, outage - sent))
        recovery = _emptied(running) - STORAGE.waits[-1]
        if len(running.ids("feed")) != len(running.accepted):
            raise RuntimeError("an event was lost")
    name = f"Recovery to an empty queue from {outage:g} s without tables, {events:,} events"
    against = f"the same load without an outage, after the longest wait of {STORAGE.waits[-1]} s"
    return [at_most(name, against, max(recovery, 0.0) / plain, 1.5)]


def _send(running: World, calls: Iterator[int], count: int) -> float:
    """Send the starts of so many calls as fast as they are taken; the seconds until the last one was."""
    began = time.monotonic()
    with ThreadPoolExecutor(_SENDERS) as pool:
        list(pool.map(lambda call: running.send("CallStarted", **call_data(call)), itertools.islice(calls, count)))
    return time.monotonic() - began


def _emptied(running: World) -> float:
    """The seconds until no message is left, seen or not."""
    seconds = running.wait_for(lambda: not running.on_its_way(), _PATIENCE_SECONDS)
    if seconds is None:
        raise RuntimeError("the queues do not become empty")
    return seconds
