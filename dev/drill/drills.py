"""The table of drills, and the outages among them."""

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
# Longer than the longest wait of a message that is retried for want of storage, and the emulator's slowness.
_RECOVERY_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill: its name, its outage, its run, and the app's settings in it beside the usual ones."""

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
    """Send events evenly over so many seconds, and wait until each is accepted."""
    with ThreadPoolExecutor(_SENDERS) as pool:
        sent = []
        for event, data in events:
            sent.append(pool.submit(partial(world.send, event, **data)))
            time.sleep(seconds / len(events))
        phase_over = time.monotonic()
        for one in sent:
            one.result()
    world.say(f"      sent {len(events)} events; the last was accepted {time.monotonic() - phase_over:.1f} s later")


def storage_outages(world: World) -> None:
    """Take away each service alone and all together, in ways that the seed chooses, while events arrive."""
    phases = [*((name,) for name in SERVICES), SERVICES]
    events, part = _calls(), world.events // len(phases)
    for gone in phases:
        fault = world.random.choice(FAULTS)
        world.say(f"{' and '.join(gone)} gone for {world.outage:g} s: {fault}")
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
    """Take away the PBX while recordings are announced, and find their audio once it is back."""
    fault = world.random.choice([fault for fault in FAULTS if fault != "hang"])
    world.say(f"the PBX gone for {world.outage:g} s: {fault}")
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

    # Each recording is an event when it is there, too.
    _recover(world, stored, more=count)
    world.check(f"the audio of all {count} recordings is there", stored())


def _recover(world: World, condition: Callable[[], bool], more: int = 0) -> None:
    seconds = world.recovered(condition, _RECOVERY_SECONDS + world.outage)
    after = "never" if seconds is None else f"after {seconds:.0f} s"
    world.check(f"everything recovered by itself {after}", seconds is not None)
    world.check_nothing_lost(more)


DRILLS: tuple[Drill, ...] = (
    Drill("storage", "Tables, Queues and Blobs gone one by one and together", storage_outages),
    Drill("pbx", "the PBX gone while recordings are announced", pbx_outage),
    Drill("restarts", "the app is stopped and killed under load, and started again", restarts, RESTARTS),
)
