"""Lists of what stays as it is once it has happened: news by cursor, and beside it what is left of older readings."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, PbxError
from shared.items.head import heads
from shared.items.intake import Intake
from shared.polling import checkpoints
from shared.polling.checkpoints import HEARTBEAT
from shared.polling.reading import moment_of
from shared.polling.windows import Window, Windowed, dumps, loads

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.items.reader import Item
    from shared.polling.checkpoints import Checkpoint
    from shared.polling.pages import Page
    from shared.polling.reading import Reading

# Old items are read after the news of each poll, for so many seconds.
_LONGEST_CATCHING_UP = 40.0


def read_facts(reading: Reading) -> None:
    """
    Read a resource whose items stay as they are: what is new, and then what is left of older readings.

    Neither waits for the other: what is above the cursor is read in each poll, also while the first reading of the
    whole list goes on, or cannot.
    """
    seen = reading.checkpoint
    if seen.started or seen.last_success or seen.cursor or seen.last_error:
        reading = _read_news(reading)
    stuck = any(window.stuck for window in loads(reading.checkpoint.left))
    since = reading.checkpoint.last_error_at
    if reading.checkpoint.left and not (stuck and since and reading.moment - since < HEARTBEAT):
        _catch_up(reading)


def _read_news(reading: Reading) -> Reading:
    """
    Read what is above the cursor, in pages of any order: the cursor moves past what is left for later only.

    Until the first reading is complete, what began long ago is left to it.
    """
    seen, resource = reading.checkpoint, reading.resource
    lookback = timedelta(hours=reading.bridge.settings.sweep_lookback_hours)
    # Some lists bring the cursor's own item again.
    known = seen.cursor or None
    window = Window(above=seen.cursor, since=None if seen.started else reading.moment - lookback)
    news = Windowed(reading.bridge.pbx, resource, [window])
    intake, cursor, changes = None, seen.cursor, dict[str, Any]()
    try:
        for page in news.pages(lane="poll", known=known):
            intake = intake or Intake(reading.bridge.storage, resource.name)
            _take(reading, intake, page, backfill=False)
            cursor = max(cursor, *page.items)
            lag = changes.get("lag") or _lag(page.items.values(), reading.moment)
            changes = {"cursor": cursor, "items": intake.head.count, "lag": lag}
    except (PbxError, BudgetExhausted):
        if changes:
            # What was read is not read again: the next poll goes on from there.
            _leave(reading, "", dumps(news.left), **changes)
        raise
    changes |= reading.note_unreadable(news.unreadable, whole=False)
    return reading.advance(all_read=not seen.left, **changes)


def _catch_up(reading: Reading) -> None:
    """Go on with what is left of the first reading, or of a burst; each page is noted, so that none is read twice."""
    first, until = not reading.checkpoint.started, time.monotonic() + _LONGEST_CATCHING_UP
    windowed = Windowed(reading.bridge.pbx, reading.resource, loads(reading.checkpoint.left))
    intake, before, changes = None, reading.checkpoint.left, dict[str, Any]()
    try:
        for page in windowed.pages(lane=reading.lane):
            if intake is None:
                intake = Intake(reading.bridge.storage, reading.resource.name)
                reading = reading.caught_up() if first else reading
            _take(reading, intake, page, backfill=first)
            changes = {"items": intake.head.count}
            reading = _leave(reading, before, dumps(windowed.left), **changes)
            before = dumps(windowed.left)
            if time.monotonic() > until:
                break
    except (PbxError, BudgetExhausted):
        _leave(reading, before, dumps(windowed.left), **changes)
        raise
    changes |= reading.note_unreadable(windowed.unreadable, whole=False)
    if not windowed.left and first:
        changes |= {"started": True, "cursor": heads(reading.bridge.storage).read(reading.resource.name).largest}
    reading = _leave(reading, before, dumps(windowed.left), **changes)
    reading.advance(all_read=not windowed.left, started=reading.checkpoint.started)


def _leave(reading: Reading, before: str, after: str, **changes: Any) -> Reading:
    """Note what is left to be read: `after` in place of `before`, beside what others have left meanwhile."""
    own, done = loads(after), loads(before)

    def left(now: Checkpoint) -> Checkpoint:
        others = [window for window in loads(now.left) if window not in done and window not in own]
        return replace(now, left=dumps([*own, *others]), **changes)

    return replace(reading, checkpoint=checkpoints.change(reading.bridge.storage, reading.checkpoint, left))


def _take(reading: Reading, intake: Intake, page: Page, *, backfill: bool) -> None:
    rows = reading.changed(reading.kept(page.items), {})
    reading.store(intake, rows, page.items, backfill=backfill)


def _lag(found: Iterable[Item], moment: datetime) -> float | None:
    latest = max((one for one in map(moment_of, found) if one), default=None)
    return None if latest is None else round((moment - latest).total_seconds(), 3)
