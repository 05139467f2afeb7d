"""What comes of a poll, noted in its checkpoint: how far it came, what is wrong, and what an alert should say."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
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


@dataclass(slots=True)
class _Refusals:
    """When this process was refused last: who is let in after that says so at once."""

    last: datetime | None = None


@once
def _refusals(storage: Storage) -> _Refusals:
    return _Refusals()


@contextmanager
def noting(reading: Reading) -> Iterator[None]:
    """
    Note in the checkpoint what ends a poll early, and raise it; what the key may not read is paused instead.

    A first reading that the budget has no calls for goes on later, and is no failure.
    """
    try:
        yield
    except PbxForbidden as error:
        note_forbidden(reading, error)
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


def note_forbidden(reading: Reading, error: PbxForbidden) -> None:
    """Pause the resource, and say so where the PBX refuses all that is asked of it."""
    since = reading.checkpoint.forbidden_since or reading.moment
    _refusals(reading.bridge.storage).last = reading.moment
    logger.warning("%s is paused for %d minutes: %s", reading.resource.name, PAUSE.seconds // 60, error)
    note_error(reading, error, paused_until=reading.moment + PAUSE, forbidden_since=since)
    since_all = checkpoints.forbidden_since(checkpoints.read_all(reading.bridge.storage))
    if since_all:
        seconds = int((reading.moment - since_all).total_seconds())
        logger.warning("signal pbx_forbidden seconds=%d: %s", seconds, checkpoints.FORBIDDEN)


def note_error(reading: Reading, error: Exception, **changes: Any) -> None:
    """Record what a poll ended with; the same again is written down rarely."""
    fields: dict[str, Any] = {
        "last_error": f"{type(error).__name__}: {error}",
        "last_error_at": reading.moment,
        **changes,
    }
    checkpoint, since = reading.checkpoint, reading.checkpoint.last_error_at
    same = not changes and checkpoint.last_error == fields["last_error"]
    if not (same and since and reading.moment - since < _SAME_ERROR):
        checkpoint = checkpoints.change(reading.bridge.storage, checkpoint, lambda now: replace(now, **fields))
    if checkpoint.last_success:
        alarm_if_stale(checkpoint, reading.moment)


def advance(reading: Reading, *, all_read: bool = True, **changes: Any) -> Reading:
    """
    Record success, at once when there is something to record, else as a heartbeat; the reading as it goes on.

    While not `all_read`, what is wrong with the rest stays to be seen.
    """
    seen = reading.checkpoint
    idle = not changes and not (seen.last_error and all_read)
    if idle and seen.last_success and reading.moment - seen.last_success < HEARTBEAT:
        refused = _refusals(reading.bridge.storage).last
        if refused is None or seen.last_success >= refused:
            return reading
    fields: dict[str, Any] = {"last_success": reading.moment, "paused_until": None, "forbidden_since": None, **changes}
    if all_read:
        fields |= {"last_error": "", "last_error_at": None}
    checkpoint = checkpoints.change(reading.bridge.storage, seen, lambda now: replace(now, **fields))
    return replace(reading, checkpoint=checkpoint)


def note_unreadable(reading: Reading, found: Sequence[Item]) -> dict[str, Any]:
    """Keep the items of a list that have no id; what to record of how many there are."""
    odd_items.keep_unreadable(reading.bridge.storage, reading.resource, found)
    return {"unreadable": len(found)} if len(found) != reading.checkpoint.unreadable else {}
