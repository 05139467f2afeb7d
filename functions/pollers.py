"""Timer triggers: a poller for each row of the resources table, and what looks after what they miss."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import azure.functions as func

from shared.bridge import bridge
from shared.once import later
from shared.pbx.resources import RESOURCES
from shared.schedules import schedule as schedule_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bridge import Bridge

blueprint = func.Blueprint()

TIMERS: tuple[tuple[str, str, Callable[[Bridge], object]], ...] = (
    *((row.function, row.schedule, partial(later("shared.polling.poll.poll"), resource=row)) for row in RESOURCES),
    ("PollLostCalls", "POLL_LOST_CALLS_SCHEDULE", later("shared.polling.lost_calls.poll_lost_calls")),
    ("SweepCalls", "SWEEP_SCHEDULE", later("shared.polling.sweep.sweep")),
    ("ReconcileEvents", "RECONCILE_SCHEDULE", later("shared.polling.reconcile.reconcile")),
    ("SyncWebhooks", "SYNC_WEBHOOKS_SCHEDULE", later("shared.webhooks.registrations.keep")),
    ("WakeDrainers", "WAKE_DRAINERS_SCHEDULE", later("shared.deliveries.standing.wake_waiting")),
    ("ApplyRetention", "RETENTION_SCHEDULE", later("shared.privacy.retention.apply_retention")),
    ("QueueWaiting", "QUEUE_WAITING_SCHEDULE", lambda its: later("shared.storage.waiting.queue_waiting")(its.storage)),
)
_after_start = later("shared.polling.start.after_start")


def runs_often(schedule: str) -> bool:
    """
    Whether an NCRONTAB schedule runs several times an hour, all the time.

    Such a timer does without the host's schedule monitor, whose state costs some writes a run: a run that was missed is
    made up by the next one, minutes later, from its checkpoint.
    """
    _, minute, *later = schedule.split()
    return later == ["*"] * 4 and (minute == "*" or "/" in minute)


def _register(name: str, schedule: str, work: Callable[[Bridge], object]) -> None:
    @blueprint.function_name(name)
    @blueprint.timer_trigger(
        "timer",
        schedule=f"%{schedule}%",
        # The app's address or key may have changed meanwhile.
        run_on_startup=name == "SyncWebhooks",
        use_monitor=not runs_often(schedule_of(schedule)),
    )
    def run(timer: func.TimerRequest) -> None:
        work(bridge())
        _after_start(bridge())


for _timer in TIMERS:
    _register(*_timer)
