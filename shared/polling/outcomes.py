"""What comes of a poll, noted in its checkpoint: how far it came, what is wrong, and what an alert should say."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, PbxError, PbxForbidden
from shared.once import once
from shared.polling import checkpoints, odd_items
from shared.schedules import polls, times_due

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.items.reader import Item
    from shared.polling.checkpoints import Checkpoint
    from shared.polling.reading import Reading
    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

# An idle poll writes nothing but this rarely, to show that it runs.
HEARTBEAT = timedelta(minutes=10)
# So long a run may take, and a timer be late.
_SLACK = timedelta(minutes=5)
# A key that is allowed again is noticed after so long; meanwhile the resource costs one call each time.
PAUSE = timedelta(minutes=5)
# An error that goes on is written down once in this time.
_SAME_ERROR = timedelta(seconds=30)
# Of a list in which nothing can be read, so many say what is wrong.
_MOST_KEPT = 20


@once
def _refusals(storage: Storage) -> list[datetime]:
    """When this process was refused last, if ever: who is let in after that says so at once."""
    return []


@contextmanager
def noting(reading: Reading) -> Iterator[None]:
    """
    Note in the checkpoint what ends a poll early, and raise it; what the key may not read is paused instead.

    A first reading that the budget has no calls for goes on later, and is no failure.
    """
    try:
        yield
    except PbxForbidden as error:
        _pause(reading, error)
    except BudgetExhausted as error:
        logger.warning("signal budget_exhausted resource=%s lane=%s", reading.resource.name, reading.lane)
        note_error(reading, error)
        if reading.checkpoint.started:
            raise
    except PbxError as error:
        note_error(reading, error)
        raise


def is_stale(resource: str, last_success: datetime, moment: datetime) -> bool:
    """Whether two runs in a row of a poll have brought no success, by its schedule: idle ones note theirs rarely."""
    return times_due(polls(resource), last_success + HEARTBEAT, moment - _SLACK) == 2


def alarm_if_stale(checkpoint: Checkpoint, moment: datetime) -> None:
    """Log the signal of a poll that has not succeeded for long."""
    last = checkpoint.last_success or checkpoint.begin or datetime.fromtimestamp(0, UTC)
    if is_stale(checkpoint.resource, last, moment) and not checkpoint.is_paused(moment):
        seconds = int((moment - last).total_seconds())
        logger.warning("signal poll_stale resource=%s seconds=%d", checkpoint.resource, seconds)


def _pause(reading: Reading, error: PbxForbidden) -> None:
    """Pause the resource, and say so where the PBX refuses all that is asked of it."""
    since = reading.checkpoint.forbidden_since or reading.moment
    _refusals(reading.bridge.storage)[:] = [reading.moment]
    logger.warning("%s is paused for %d minutes: %s", reading.resource.name, PAUSE.seconds // 60, error)
    note_error(reading, error, paused_until=reading.moment + PAUSE, forbidden_since=since)
    since_all = checkpoints.forbidden_since(checkpoints.read_all(reading.bridge.storage))
    if since_all:
        seconds = int((reading.moment - since_all).total_seconds())
        logger.warning("signal pbx_forbidden seconds=%d: %s", seconds, checkpoints.FORBIDDEN)


def note_error(reading: Reading, error: Exception, **changes: Any) -> None:
    """Record what a poll ended with; the same again is written down rarely."""
    text, seen = f"{type(error).__name__}: {error}", reading.checkpoint
    same = not changes and seen.last_error == text
    if not (same and seen.last_error_at and reading.moment - seen.last_error_at < _SAME_ERROR):
        reading = reading.noted(last_error=text, last_error_at=reading.moment, **changes)
    if reading.checkpoint.last_success:
        alarm_if_stale(reading.checkpoint, reading.moment)


def advance(reading: Reading, *, all_read: bool = True, **changes: Any) -> Reading:
    """
    Record success, at once when there is something to record, else as a heartbeat; the reading as it goes on.

    While not `all_read`, what is wrong with the rest stays to be seen.
    """
    seen, refused = reading.checkpoint, _refusals(reading.bridge.storage)
    last, idle = seen.last_success, not changes and not (seen.last_error and all_read)
    if idle and last and reading.moment - last < HEARTBEAT and all(last >= one for one in refused):
        return reading
    if all_read:
        changes = {"last_error": "", "last_error_at": None, **changes}
    return reading.noted(last_success=reading.moment, paused_until=None, forbidden_since=None, **changes)


def note_unreadable(reading: Reading, found: Sequence[Item], *, whole: bool = True) -> dict[str, Any]:
    """
    Keep the items of a list that have no id; what to record of how many there are.

    What is no `whole` list says nothing of what was read before, so that the number only grows until a sweep.
    """
    for item in found[:_MOST_KEPT]:
        reason = f"{reading.resource.id_field}: it cannot be read as an identifier"
        odd_items.keep(reading.bridge.storage, reading.resource.name, reason, item)
    before = reading.checkpoint.unreadable
    return {"unreadable": len(found)} if len(found) > before or (whole and len(found) < before) else {}
