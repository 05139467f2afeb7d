"""The table of drills, and the drills of storage and the PBX."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dev.drill.proxy import FAULTS
from dev.drill.restarts import SETTINGS as RESTARTS
from dev.drill.restarts import restarts
from dev.drill.world import FIRST_CALL, SERVICES, World, call_data

_SENDERS = 16
# Longer than the longest delay of a message that is retried after a storage error, on a slow emulator.
_RECOVERY_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill; `settings` are added to the app's usual ones."""

    name: str
    description: str
    run: Callable[[World], None]
    settings: Mapping[str, str] = field(default_factory=dict)


def _calls() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of one call after another."""
    for call in itertools.count(FIRST_CALL):
        for event in ("CallStarted", "CallConnected", "CallCompleted"):
            yield event, call_data(call)


def _send(world: World, events: list[tuple[str, dict[str, Any]]], seconds: float) -> None:
    """Send events evenly over a number of seconds, and wait until all are accepted."""
    with ThreadPoolExecutor(_SENDERS) as pool:
        futures = []
        for event, data in events:
            futures.append(pool.submit(partial(world.send, event, **data)))
            time.sleep(seconds / len(events))
        phase_over = time.monotonic()
        for future in futures:
            future.result()
    world.say(f"      sent {len(events)} events; the last was accepted {time.monotonic() - phase_over:.1f} s later")


def storage_outages(world: World) -> None:
    """Take down each storage service alone and all together while events arrive; the seed chooses the faults."""
    phases = [*((name,) for name in SERVICES), SERVICES]
    events, part = _calls(), world.events // len(phases)
    for gone in phases:
        fault = world.random.choice(FAULTS)
        world.say(f"{' and '.join(gone)} down for {world.outage:g} s: {fault}")
        with ThreadPoolExecutor(1) as pool:
            with world.without(*gone, fault=fault):
                sending = pool.submit(_send, world, list(itertools.islice(events, part)), world.outage)
                time.sleep(world.outage)
            sending.result()
    _recover(world, lambda: len(world.ids("feed")) >= len(world.accepted))
    world.say(f"      {world.refused} answers asked the sender to try again")
    stories = list(world.storage.table("calls").query_entities("PartitionKey eq 'call'", select=["revision"]))
    whole = sum(row["revision"] == 3 for row in stories)
    world.check(f"each call has the story of its three events, {whole} of them", whole >= len(world.accepted) // 3)


def pbx_outage(world: World) -> None:
    """Take down the PBX while recordings are announced, and check that their audio arrives afterwards."""
    fault = world.random.choice([fault for fault in FAULTS if fault != "hang"])
    world.say(f"the PBX down for {world.outage:g} s: {fault}")
    count = max(2, min(world.events // 10, 40))
    for id in range(1, count + 1):
        world.pbx.control("POST", "items", resource="call_records", id=id, **call_data(FIRST_CALL + id))
    with world.without("PBX", fault=fault):
        began = time.monotonic()
        for id in range(1, count + 1):
            world.send("CallRecorded", callID=FIRST_CALL + id, recordingID=id)
        time.sleep(max(0.0, began + world.outage - time.monotonic()))

    def stored() -> bool:
        return sum(1 for _ in world.storage.container("recordings").list_blob_names()) >= count

    # Each stored recording makes an event of its own.
    _recover(world, stored, more=count)
    world.check(f"the audio of all {count} recordings is stored", stored())


def _recover(world: World, condition: Callable[[], bool], more: int = 0) -> None:
    seconds = world.recovered(condition, _RECOVERY_SECONDS + world.outage)
    after = "never" if seconds is None else f"after {seconds:.0f} s"
    world.check(f"everything recovered by itself {after}", seconds is not None)
    world.check_nothing_lost(more)


DRILLS: tuple[Drill, ...] = (
    Drill("storage", "Tables, Queues and Blobs down one by one and together", storage_outages),
    Drill("pbx", "the PBX down while recordings are announced", pbx_outage),
    Drill("restarts", "the app stopped and killed under load, and started again", restarts, RESTARTS),
)
