"""The steps of timer LookAfter, which does all periodic work but polling."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from shared import health
from shared.bridge import Bridge
from shared.calls.store import calls, without_end
from shared.deliveries.drain import wake_waiting
from shared.polling.poll import reconcile
from shared.polling.run import alarm_if_stale, checkpoints, read_steps, save_step
from shared.privacy.retention import apply_retention
from shared.storage.account import Storage, once
from shared.times import LONGEST_CALL, now
from shared.webhooks import sync_on_schedule

logger = logging.getLogger(__name__)

_ALWAYS, _HOUR, _DAY = timedelta(), timedelta(hours=1), timedelta(days=1)
# Timers do not run on the second.
_SLACK = timedelta(minutes=1)
_MOST_CALLS = 1000
# Every process does this step in its first run.
WEBHOOKS = "webhooks"


def _alarm(bridge: Bridge) -> None:
    """Log the signals of stale polls."""
    moment = now()
    for checkpoint in checkpoints(bridge.storage):
        alarm_if_stale(checkpoint, moment)


def _give_up(bridge: Bridge) -> None:
    """End the stories of calls that began over a week ago and have no end."""
    moment, stories = now(), calls(bridge.storage, bridge.settings.default_region)
    # Up to four weeks back, in case the timer did not run.
    for call_id in without_end(bridge.storage, moment - 4 * LONGEST_CALL, moment - LONGEST_CALL, _MOST_CALLS):
        stories.merge(call_id, None)


# Each step's name, interval and function.
STEPS: tuple[tuple[str, timedelta, Callable[[Bridge], object]], ...] = (
    (WEBHOOKS, _HOUR, sync_on_schedule),
    ("reconcile", _ALWAYS, reconcile),
    ("deliveries", _ALWAYS, wake_waiting),
    ("polls", _HOUR, _alarm),
    ("calls", _HOUR, _give_up),
    ("retention", _DAY, apply_retention),
)


@once
def _started(storage: Storage) -> set[str]:
    """Return the steps that this process has started."""
    return set()


def look_after(bridge: Bridge, *, at: datetime | None = None) -> None:
    """
    Run all steps that are due, also after one of them fails; the status shows failures.

    Concurrent runs are harmless. Raises an ExceptionGroup of the failures.
    """
    moment, errors, started = at or now(), list[Exception](), _started(bridge.storage)
    done = read_steps(bridge.storage)
    for name, every, work in STEPS:
        # The address or the key may be new.
        is_first = name == WEBHOOKS and name not in started
        if name in done and moment - done[name] < every - _SLACK and not is_first:
            continue
        started.add(name)
        try:
            with health.watched(bridge.storage, f"LookAfter ({name})"):
                work(bridge)
        except Exception as error:  # noqa: BLE001 - raised after the other steps
            logger.warning("%s failed: %s", name, type(error).__name__)
            errors.append(error)
        else:
            if every:
                save_step(bridge.storage, name, moment)
    if errors:
        raise ExceptionGroup("steps failed", errors)
