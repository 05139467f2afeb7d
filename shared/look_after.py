"""The timer that looks after what others miss: each step by itself, and shown where it fails."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared import health
from shared.calls.store import calls
from shared.deliveries.drain import wake_waiting
from shared.once import once
from shared.polling import checkpoints
from shared.polling.poll import reconcile
from shared.privacy.retention import apply_retention
from shared.storage.account import reaching_storage
from shared.times import LONGEST_CALL, now
from shared.webhooks.sync import keep

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

_ALWAYS, _HOUR, _DAY = timedelta(), timedelta(hours=1), timedelta(days=1)
# Runs of a timer are not on the second.
_SLACK = timedelta(minutes=1)
_MOST_CALLS = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """A row: a name, how often it is due, its work, and whether a process begins with it."""

    name: str
    every: timedelta
    work: Callable[[Bridge], object]
    at_start: bool = False


def _alarm(bridge: Bridge) -> None:
    """Log the signals of polls that have not succeeded for long."""
    moment = now()
    for checkpoint in checkpoints.read_all(bridge.storage):
        checkpoints.alarm_if_stale(checkpoint, moment)


def _give_up(bridge: Bridge) -> None:
    """Wait no longer for the ends of calls that began a week ago."""
    moment, stories = now(), calls(bridge.storage, bridge.settings.default_region)
    # Also of those before, in case that nobody has looked.
    for call_id in stories.without_end(moment - 4 * LONGEST_CALL, moment - LONGEST_CALL, _MOST_CALLS):
        stories.give_up(call_id)


STEPS: tuple[Step, ...] = (
    Step("webhooks", _HOUR, keep, at_start=True),
    Step("reconcile", _ALWAYS, reconcile),
    Step("deliveries", _ALWAYS, wake_waiting),
    Step("polls", _HOUR, _alarm),
    Step("calls", _HOUR, _give_up),
    Step("retention", _DAY, apply_retention),
)


@once
def _begun(storage: Storage) -> set[str]:
    """The steps that this process began with, once it has."""
    return set()


def look_after(bridge: Bridge, *, at: datetime | None = None) -> None:
    """
    Do each step that is due; one that fails keeps no other from being done, and is shown in the status.

    Two runs at once do no harm. Raises an ExceptionGroup of what failed.
    """
    moment, errors = at or now(), list[Exception]()
    with reaching_storage():
        done = checkpoints.read_steps(bridge.storage)
        for step in STEPS:
            if not _is_due(bridge, step, done.get(step.name), moment):
                continue
            try:
                with health.watched(bridge.storage, f"LookAfter ({step.name})"):
                    step.work(bridge)
            except Exception as error:  # noqa: BLE001 - raised below, once the other steps are done
                logger.warning("%s failed: %s", step.name, type(error).__name__)
                errors.append(error)
            else:
                if step.every:
                    checkpoints.note_step(bridge.storage, step.name, moment)
    if errors:
        raise ExceptionGroup("steps failed", errors)


def _is_due(bridge: Bridge, step: Step, done: datetime | None, moment: datetime) -> bool:
    begun = _begun(bridge.storage)
    is_first = step.at_start and step.name not in begun
    begun.add(step.name)
    return is_first or done is None or moment - done >= step.every - _SLACK
