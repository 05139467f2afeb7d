"""The app is stopped and started again while events arrive and the PBX has calls of its own."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dev.drill.world import FIRST_CALL, call_data
from shared.polling import checkpoints
from shared.storage import rows
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dev.drill.world import World

SETTINGS: Mapping[str, str] = {
    "PUBLIC_BASE_URL": "{url}",
    "RECONCILE_GRACE_SECONDS": "5",
    "POLL_CALL_HISTORY_SCHEDULE": "0/10 * * * * *",
    "POLL_CALL_RECORDS_SCHEDULE": "2/10 * * * * *",
    "POLL_VOICEMAILS_SCHEDULE": "5/10 * * * * *",
    "POLL_LOST_CALLS_SCHEDULE": "7/10 * * * * *",
}
_POLLED = ("call_history", "call_records", "voicemails", "lost_calls")
_WAYS = (signal.SIGTERM, signal.SIGKILL)
_SENDERS, _PAUSE_SECONDS = 8, 0.5
# Polls, the grace, and the lease of messages that a killed process held.
_SOON_SECONDS = 90.0
_PBX_CALLS = 6
_BEFORE_SECONDS = 10.0


def restarts(world: World) -> None:
    """Ended in order and killed, in the order that the seed chooses; what was said meanwhile is found soon after."""
    known = world.wait_for(lambda: _started(world) >= set(_POLLED), 90)
    world.check("the PBX's lists are followed", known is not None)
    if known is None:
        return
    ways = world.random.sample(_WAYS, len(_WAYS))
    calls, over = itertools.count(FIRST_CALL), threading.Event()
    with ThreadPoolExecutor(_SENDERS) as pool:
        senders = [pool.submit(_send, world, calls, over) for _ in range(_SENDERS)]
        try:
            planned = [call for way in ways for call in _restart(world, way)]
        finally:
            over.set()
        for sender in senders:
            sender.result()
    missing = _Missing(world, planned)
    seconds = world.recovered(lambda: not missing.find(), _SOON_SECONDS + world.outage)
    world.check(f"what the PBX said is all there {seconds or 0:.0f} s later {missing.found[:3]}", seconds is not None)
    world.check_nothing_lost(None)


def _started(world: World) -> set[str]:
    return {row.resource for row in checkpoints.read_all(world.storage) if row.started}


def _send(world: World, calls: Any, over: threading.Event) -> None:
    while not over.wait(_PAUSE_SECONDS):
        world.send("CallCompleted", **call_data(next(calls)))


def _restart(world: World, way: signal.Signals) -> list[Mapping[str, Any]]:
    """The PBX's calls before, during and after a restart."""
    world.say(f"ended by {way.name} under load, and away for {world.outage:g} s")
    planned = _call(world)
    _age_start(world)
    time.sleep(min(world.outage, _BEFORE_SECONDS))
    world.away = True
    if way == signal.SIGKILL:
        world.host.kill()
    else:
        world.host.stop(60)
    planned += _call(world)
    time.sleep(world.outage)
    began = time.monotonic()
    world.host = world.start()
    world.say(f"      ready again after {time.monotonic() - began:.1f} s")
    return planned + _call(world)


def _age_start(world: World) -> None:
    """As though the app had run for long: starts within minutes of each other count as one."""
    table = world.storage.table(checkpoints.TABLE)
    row = rows.get(table, "start", "start")
    if row is not None:
        rows.put(table, {**row, "at": now() - timedelta(hours=1)})


def _call(world: World) -> list[Mapping[str, Any]]:
    """Some calls: answered and recorded, or missed with a message."""
    planned = []
    for number in range(_PBX_CALLS):
        talks = {"talks": 0.4, "recorded": True} if number % 2 else {"talks": 0, "voicemail": True}
        caller = f"2{world.random.randrange(10**7):07d}"
        call = {"caller": caller, "destination": "67000123", "contact_id": 966, "rings": 0.2, "recording_delay": 0.2}
        planned.append(world.pbx.control("POST", "calls", **call, **talks))
    return planned


class _Missing:
    """What the PBX has said and table `events` lacks: `found`, the event and its identifier."""

    def __init__(self, world: World, planned: list[Mapping[str, Any]]) -> None:
        self._world = world
        self._wanted = {("CallCompleted", call["id"]) for call in planned}
        self._wanted |= {("CallRecorded", call["recording_id"]) for call in planned if call["recording_id"]}
        self._wanted |= {("VoicemailCreated", call["voicemail_id"]) for call in planned if call["voicemail_id"]}
        self._wanted |= {("LostCallerAdded", call["caller"]) for call in planned if call["voicemail_id"]}
        self.found: list[Any] = sorted(self._wanted, key=str)

    def find(self) -> list[Any]:
        """Look again."""
        there = set()
        for row in self._world.storage.table("events").query_entities("id ne ''"):
            for name in ("callID", "recordingID", "voicemailID", "caller"):
                value = row.get(name)
                there.add((row["type"], getattr(value, "value", value)))
        self.found = sorted(self._wanted - there, key=str)
        return self.found
