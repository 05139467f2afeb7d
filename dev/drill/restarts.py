"""The drill of restarts: stop and start the app while events arrive and the PBX has calls."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dev.drill.world import FIRST_CALL, World, call_data
from shared.polling.run import checkpoints

_POLLED = ("call_history", "call_records", "voicemails", "lost_calls")
SETTINGS: Mapping[str, str] = {
    "PUBLIC_BASE_URL": "{url}",
    "RECONCILE_GRACE_SECONDS": "5",
    **{f"POLL_{name.upper()}_SCHEDULE": f"{2 * at}/10 * * * * *" for at, name in enumerate(_POLLED)},
}
_WAYS = (signal.SIGTERM, signal.SIGKILL)
_SENDERS, _PAUSE_SECONDS = 8, 0.5
# Covers polls, the grace of reconciling, and the lease of messages that a killed process held.
_SOON_SECONDS = 90.0
_PBX_CALLS = 6
_BEFORE_SECONDS = 10.0


def restarts(world: World) -> None:
    """Stop and kill the app, in an order that the seed chooses, and check that the events of the downtime arrive."""
    polled = world.wait_for(lambda: _started(world) >= set(_POLLED), 90)
    world.check("the PBX's lists are polled", polled is not None)
    if polled is None:
        return
    calls, over = itertools.count(FIRST_CALL), threading.Event()

    def send() -> None:
        while not over.wait(_PAUSE_SECONDS):
            world.send("CallCompleted", **call_data(next(calls)))

    with ThreadPoolExecutor(_SENDERS) as pool:
        senders = [pool.submit(send) for _ in range(_SENDERS)]
        try:
            expected = {event for way in world.random.sample(_WAYS, len(_WAYS)) for event in _restart(world, way)}
        finally:
            over.set()
        for sender in senders:
            sender.result()
    seconds = world.recovered(lambda: expected <= _stored(world), _SOON_SECONDS + world.outage)
    missing = sorted(expected - _stored(world), key=str)[:3]
    world.check(f"all events of the PBX are stored {seconds or 0:.0f} s later {missing}", seconds is not None)
    world.check_nothing_lost(None)


def _started(world: World) -> set[str]:
    return {row.resource for row in checkpoints(world.storage) if row.started}


def _restart(world: World, way: signal.Signals) -> Iterator[tuple[str, Any]]:
    """End the app and start it; yield the events of the PBX's calls before, during and after the downtime."""
    world.say(f"ended by {way.name} under load, and down for {world.outage:g} s")
    yield from _call(world)
    time.sleep(min(world.outage, _BEFORE_SECONDS))
    world.away = True
    if way == signal.SIGKILL:
        world.host.kill()
    else:
        world.host.stop(60)
    yield from _call(world)
    time.sleep(world.outage)
    began = time.monotonic()
    world.host = world.start()
    world.say(f"      ready again after {time.monotonic() - began:.1f} s")
    yield from _call(world)


def _call(world: World) -> Iterator[tuple[str, Any]]:
    """Plan answered calls with a recording and missed calls with a voicemail; yield their events and identifiers."""
    for number in range(_PBX_CALLS):
        talks = {"talks": 0.4, "recorded": True} if number % 2 else {"talks": 0, "voicemail": True}
        caller = f"2{world.random.randrange(10**7):07d}"
        plan = {"caller": caller, "destination": "67000123", "contact_id": 966, "rings": 0.2, "recording_delay": 0.2}
        call = world.pbx.control("POST", "calls", **plan, **talks)
        yield "CallCompleted", call["id"]
        if number % 2:
            yield "CallRecorded", call["recording_id"]
        else:
            yield "VoicemailCreated", call["voicemail_id"]
            yield "LostCallerAdded", caller


def _stored(world: World) -> set[tuple[str, Any]]:
    """Return the type of each event in table `events`, paired with each of its identifiers."""
    names = ("callID", "recordingID", "voicemailID", "caller")
    stored = world.storage.table("events").query_entities("id ne ''")
    return {(row["type"], getattr(row.get(name), "value", row.get(name))) for row in stored for name in names}
