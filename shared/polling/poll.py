"""The poll of a resource: read the checkpoint, page, hand on, store, and only then advance."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, Conflict, PbxError, PbxForbidden
from shared.items.intake import Intake, Row, Stale, row_of
from shared.polling import changes as edits
from shared.polling import checkpoints
from shared.polling.checkpoints import Checkpoint
from shared.polling.pages import pages
from shared.polling.reading import Reading, grace, moment_of
from shared.storage.account import reaching_storage
from shared.times import now, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.bridge import Bridge
    from shared.items.reader import Item
    from shared.pbx.resources import Resource
    from shared.polling.pages import Page

logger = logging.getLogger(__name__)

# An idle poll writes nothing but this rarely, to show that it runs.
HEARTBEAT = timedelta(minutes=10)
# Later than any heartbeat by some missed runs.
STALE = timedelta(minutes=25)
_PAUSE = timedelta(hours=1)
# An error that goes on is written down once in this time.
_SAME_ERROR = timedelta(seconds=30)
_TRIES = 5
# Between a listing's digest and how many of the items missing from it the PBX was asked about.
_ASKED = ":"


def poll(bridge: Bridge, resource: Resource, *, at: datetime | None = None, whole: bool = False) -> None:
    """
    Bring what is new of a resource, and of what can be edited also what has changed or gone.

    `whole` compares everything even if the list looks as it did. A resource that the key may not read is paused
    for an hour. Raises the PbxError or BudgetExhausted that ended it, which the checkpoint then shows, or
    StorageUnavailable; the next poll goes on where this one ended.
    """
    moment = at or now()
    with reaching_storage():
        checkpoint = checkpoints.read(bridge.storage, resource.name) or _first(bridge, resource, moment)
        if checkpoint.paused_until and moment < checkpoint.paused_until:
            return
        reading = Reading(bridge=bridge, resource=resource, checkpoint=checkpoint, moment=moment)
        try:
            (_read_edits if resource.editable else _read_facts)(reading, whole)
        except PbxForbidden as error:
            logger.warning("%s is paused for an hour: %s", resource.name, error)
            _note(reading, error, paused_until=moment + _PAUSE)
        except BudgetExhausted as error:
            logger.warning("signal budget_exhausted resource=%s lane=%s", resource.name, reading.lane)
            _note(reading, error)
            if checkpoint.started:
                raise
        except PbxError as error:
            _note(reading, error)
            raise


def alarm_if_stale(checkpoint: Checkpoint, moment: datetime) -> None:
    """Log the signal of a poll that has not succeeded for long."""
    last = checkpoint.last_success or checkpoint.begin or moment - 2 * STALE
    paused = checkpoint.paused_until is not None and moment < checkpoint.paused_until
    if moment - last > STALE and not paused:
        seconds = int((moment - last).total_seconds())
        logger.warning("signal poll_stale resource=%s seconds=%d", checkpoint.resource, seconds)


def _first(bridge: Bridge, resource: Resource, moment: datetime) -> Checkpoint:
    start = bridge.settings.poll_start
    begin = None if start == "all" else moment if start == "now" else parse_time(start)
    logger.info("%s is read for the first time; handed on is what came since %s", resource.name, start)
    return checkpoints.create(bridge.storage, Checkpoint(resource=resource.name, begin=begin))


def _note(reading: Reading, error: Exception, **changes: Any) -> None:
    told: dict[str, Any] = {
        "last_error": f"{type(error).__name__}: {error}",
        "last_error_at": reading.moment,
        **changes,
    }
    checkpoint, since = reading.checkpoint, reading.checkpoint.last_error_at
    same = not changes and checkpoint.last_error == told["last_error"]
    if not (same and since and reading.moment - since < _SAME_ERROR):
        checkpoint = checkpoints.change(reading.bridge.storage, checkpoint, lambda now: replace(now, **told))
    if checkpoint.last_success:
        alarm_if_stale(checkpoint, reading.moment)


def _advance(reading: Reading, **changes: Any) -> None:
    """Record success: at once when there is something to record, else as a heartbeat."""
    seen = reading.checkpoint
    idle = not changes and seen.started and not seen.last_error
    if idle and seen.last_success and reading.moment - seen.last_success < HEARTBEAT:
        return
    told: dict[str, Any] = {"started": True, "last_success": reading.moment, "last_error": "", "last_error_at": None}
    told |= {"paused_until": None, **changes}
    checkpoints.change(reading.bridge.storage, seen, lambda now: replace(now, **told))


def _read_facts(reading: Reading, whole: bool) -> None:
    """
    Read a resource whose items stay as they are: what is above the cursor, or the whole list for the first time.

    The cursor moves only after a whole reading: pages come in any order.
    """
    seen, intake, cursor, lag = reading.checkpoint, None, reading.checkpoint.cursor, None
    # Some lists bring the cursor's own item again.
    known = cursor if seen.started and cursor else None
    filters = {"offset": 0 if seen.started else seen.offset, reading.resource.cursor_parameter: known or 0}
    for page in pages(reading.bridge.pbx, reading.resource, lane=reading.lane, known=known, **filters):
        if intake is None:
            intake = Intake(reading.bridge.storage, reading.resource.name)
            reading = reading if seen.started else reading.caught_up()
        _take(reading, intake, page)
        cursor = max(cursor, *page.items)
        if seen.started:
            lag = lag or _lag(page.items.values(), reading.moment)
        else:
            reading = replace(reading, checkpoint=_progress(reading, cursor, page.next_offset, intake))
    if intake:
        _advance(reading, cursor=cursor, items=intake.head.count, lag=lag)
    else:
        _advance(reading)


def _take(reading: Reading, intake: Intake, page: Page) -> None:
    wanted: list[Row] = []
    baseline: list[Row] = []
    for number, item in page.items.items():
        fresh = reading.wanted(item)
        (wanted if fresh else baseline).append(row_of(number, item, baseline=not fresh))
    intake.add(
        wanted, reading.moment, due=reading.moment + grace(reading.bridge), backfill=not reading.checkpoint.started
    )
    intake.add(baseline, reading.moment)


def _progress(reading: Reading, cursor: int, offset: int, intake: Intake) -> Checkpoint:
    # Until the first reading is complete the cursor only collects; a page's overlap covers what moves meanwhile.
    told: dict[str, Any] = {"cursor": cursor, "offset": offset, "items": intake.head.count}
    logger.info("%s: %d items read for the first time so far", reading.resource.name, intake.head.count)
    return checkpoints.change(reading.bridge.storage, reading.checkpoint, lambda now: replace(now, **told))


def _lag(found: Iterable[Item], moment: datetime) -> float | None:
    told = max((one for one in map(moment_of, found) if one), default=None)
    return None if told is None else round((moment - told).total_seconds(), 3)


def _read_edits(reading: Reading, whole: bool) -> None:
    """
    Read a resource whose items change and go: the whole list, each time.

    A list of one page that looks as it did is done after one call. That nothing stands behind that page is sure
    when the newest come first; otherwise, and with each heartbeat, the list is read to its end.
    """
    seen = reading.checkpoint
    for _ in range(_TRIES):
        began = time.time_ns() // 1000
        listed = _listed(reading, whole)
        if not seen.started:
            reading = reading.caught_up()
            seen = reading.checkpoint
        digest = edits.digest(listed)
        if seen.started and digest == seen.digest and not whole:
            _advance(reading)
            return
        before, _, asked = seen.digest.partition(_ASKED)
        skip = int(asked) if asked and before == digest else 0
        try:
            outcome = edits.compare(reading, listed, since=began, look=whole, skip=skip)
        except Stale:
            continue
        if outcome.asked:
            digest = f"{digest}{_ASKED}{outcome.asked}"
        _advance(reading, digest=digest, cursor=max(listed, default=0), items=outcome.items)
        return
    raise Conflict(f"{reading.resource.name} kept changing")


def _listed(reading: Reading, whole: bool) -> dict[int, Item]:
    seen, listed = reading.checkpoint, dict[int, "Item"]()
    alive = seen.last_success is not None and reading.moment - seen.last_success < HEARTBEAT
    everything = {reading.resource.cursor_parameter: 0}
    for page in pages(reading.bridge.pbx, reading.resource, lane=reading.lane, **everything):
        first = not listed
        listed.update(page.items)
        if first and alive and not whole and page.newest_first and edits.digest(listed) == seen.digest:
            break
    return listed
