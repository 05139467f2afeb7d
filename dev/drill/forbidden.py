"""The PBX answers 403 to everything: its address list, the key, or what the key may do has changed."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dev.drill.world import FIRST_CALL, call_data
from shared.pbx.resources import RESOURCES
from shared.polling import checkpoints
from shared.polling.poll import PAUSE
from shared.storage import rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dev.drill.world import World

_EVERY = "*/15 * * * * *"
SETTINGS: Mapping[str, str] = {
    **{row.schedule: _EVERY for row in RESOURCES},
    "POLL_LOST_CALLS_SCHEDULE": _EVERY,
    "RECONCILE_GRACE_SECONDS": "1",
    "RECONCILE_SCHEDULE": "*/5 * * * * *",
}
_POLLED = {"lost_calls", *(row.name for row in RESOURCES)}
# The status says so within 15 minutes where polls run every five; here they run every few seconds.
_STATUS_SECONDS = 60.0
_CAUSES = ("IP addresses", "key", "methods")
_CALLS = 5


def forbidden(world: World) -> None:
    """Status and log name the likely causes; once it is allowed again, what was missed comes by itself."""
    known = world.wait_for(lambda: {row.resource for row in _checkpoints(world) if row.started} >= _POLLED, 60)
    world.check("the PBX's lists are followed", known is not None)
    world.say(f"the PBX answers 403 to everything for {world.outage:g} s")
    world.pbx.control("POST", "faults", kind="status", status=403, times=None)
    began, planned = time.monotonic(), [_call(world) for _ in range(_CALLS)]
    seconds = world.wait_for(lambda: _problem(world) is not None, _STATUS_SECONDS)
    text = _problem(world) or ""
    world.check(f"the status names the causes after {seconds or 0:.0f} s", all(cause in text for cause in _CAUSES))
    world.check("the log has the alert's signal", "signal pbx_forbidden" in world.host.output)
    for number in range(world.events):
        world.send("CallCompleted", **call_data(FIRST_CALL + number))
    time.sleep(max(0.0, began + world.outage - time.monotonic()))
    world.pbx.control("DELETE", "faults")
    _end_pauses(world)

    def whole() -> bool:
        found = world.storage.table("events").query_entities("type eq 'CallCompleted'", select=["callID"])
        there = {row["callID"].value for row in found}
        return {call["id"] for call in planned} <= there and _problem(world) is None

    seconds = world.recovered(whole, PAUSE.total_seconds() + _STATUS_SECONDS)
    world.check(f"all goes on by itself {seconds or 0:.0f} s after", seconds is not None)
    world.check_nothing_lost(None)


def _checkpoints(world: World) -> list[checkpoints.Checkpoint]:
    return checkpoints.read_all(world.storage)


def _problem(world: World) -> str | None:
    return next((text for text in world.status()["problems"] if "403 to everything" in text), None)


def _call(world: World) -> Mapping[str, Any]:
    call = {"caller": "27771153", "destination": "67000123", "contact_id": 966, "rings": 0.1, "talks": 0.1}
    made: Mapping[str, Any] = world.pbx.control("POST", "calls", **call)
    return made


def _end_pauses(world: World) -> None:
    """In the short form, as though the pause of those that were refused had been for as long as the outage."""
    pause = timedelta(seconds=world.outage)
    if pause >= PAUSE:
        return
    table = world.storage.table(checkpoints.TABLE)
    for row in _checkpoints(world):
        if row.paused_until:
            rows.merge(
                table,
                {
                    "PartitionKey": checkpoints.PARTITION,
                    "RowKey": row.resource,
                    "pausedUntil": row.paused_until - PAUSE + pause,
                },
            )
