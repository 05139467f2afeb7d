"""The app is stopped and started again while events arrive and the PBX has calls of its own."""

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
# Polls, the grace, and the lease of messages that a killed process held.
_SOON_SECONDS = 90.0
_PBX_CALLS = 6
_BEFORE_SECONDS = 10.0


def restarts(world: World) -> None:
    """End the app in order and by a kill, in the order that the seed chooses, and find what happened meanwhile."""
    known = world.wait_for(lambda: _started(world) >= set(_POLLED), 90)
    world.check("the PBX's lists are followed", known is not None)
    if known is None:
        return
    calls, over = itertools.count(FIRST_CALL), threading.Event()

    def send() -> None:
        while not over.wait(_PAUSE_SECONDS):
            world.send("CallCompleted", **call_data(next(calls)))

    with ThreadPoolExecutor(_SENDERS) as pool:
        senders = [pool.submit(send) for _ in range(_SENDERS)]
        try:
            wanted = {one for way in world.random.sample(_WAYS, len(_WAYS)) for one in _restart(world, way)}
        finally:
            over.set()
        for sender in senders:
            sender.result()
    seconds = world.recovered(lambda: wanted <= _found(world), _SOON_SECONDS + world.outage)
    missing = sorted(wanted - _found(world), key=str)[:3]
    world.check(f"all that the PBX had is there {seconds or 0:.0f} s later {missing}", seconds is not None)
    world.check_nothing_lost(None)


def _started(world: World) -> set[str]:
    return {row.resource for row in checkpoints(world.storage) if row.started}


def _restart(world: World, way: signal.Signals) -> Iterator[tuple[str, Any]]:
    """End the app and start it; yield the events of the PBX's calls before, during and after that."""
    world.say(f"ended by {way.name} under load, and away for {world.outage:g} s")
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
    """Plan calls, answered and recorded, or missed with a message; yield their events and identifiers."""
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


def _found(world: World) -> set[tuple[str, Any]]:
    """Return each event in table `events` with each identifier that it may be wanted by."""
    names = ("callID", "recordingID", "voicemailID", "caller")
    stored = world.storage.table("events").query_entities("id ne ''")
    return {(row["type"], getattr(row.get(name), "value", row.get(name))) for row in stored for name in names}
