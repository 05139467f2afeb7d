"""Lists of what happens: read by date, the newest part first, then older days, then history a month at a time."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.errors import BudgetExhausted, PbxError, PbxForbidden, PbxThrottled, PbxUnreachable
from shared.polling.compare import Comparison
from shared.polling.missing import alarm_if_lost
from shared.polling.pages import Deadline
from shared.polling.ranges import compare_whole, conclude, read_range
from shared.polling.reading import grace
from shared.times import event_time, months_before

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.items.row import Item
    from shared.polling.reading import Reading

_DAY = timedelta(days=1)
# An ordinary run begins so long before the last success: neither the zone of the PBX's dates is documented nor whether
# they include their bounds.
_LOOK_BACK = timedelta(hours=3)
_MARGIN = timedelta(minutes=1)
# Seconds of a run for history: news come first.
LONGEST_HISTORY = 20.0
# These say nothing of the day that was asked for: no other one would be answered.
_OUTAGES = (PbxForbidden, PbxThrottled, PbxUnreachable, BudgetExhausted)


def read_windows(reading: Reading) -> None:
    """
    Compare what has happened since the last success, then the days that are left, then a part of history.

    A day that cannot be read to its end keeps what its readable pages had, and no other day waiting.
    """
    since, days = _plan(reading)
    left = days | reading.checkpoint.days_left
    if reading.resource.withdrawn and reading.is_thorough:
        # A deleted item may be of any age.
        news, days, left = compare_whole(reading), set[str](), set[str]()
    else:
        if reading.checkpoint.looked is None and not reading.resource.withdrawn:
            reading = _begin_history(reading, min([since, *map(_start, days)]))
        news = Comparison(reading)
        try:
            read_range(news, date_from=since)
        except PbxForbidden:
            raise
        except (PbxError, BudgetExhausted) as error:
            news.failure = error
    alarm_if_lost(reading, news.counts)
    changes = reading.note_unreadable(news.unreadable, whole=reading.is_thorough) | news.changes()
    started = reading.checkpoint.started or not (news.failure or left)
    reading = conclude(reading, news.failure, left=_dumps(left), started=started, **changes)
    reading = _read_days(reading, days)
    if reading.checkpoint.history:
        _read_months(reading)


def _plan(reading: Reading) -> tuple[datetime, set[str]]:
    """Return from when on everything is asked for in one piece, and the days before that, each by itself."""
    seen, settings = reading.checkpoint, reading.bridge.settings
    look_back = _LOOK_BACK + grace(reading.bridge)
    if reading.is_thorough:
        look_back = timedelta(hours=settings.sweep_lookback_hours) + _DAY
    since = min(seen.last_success or reading.moment, reading.moment) - look_back
    days = set(seen.days_left) if reading.is_thorough or not seen.last_error else set()
    if reading.moment - since <= _DAY:
        return since, days
    today = _midnight(reading.moment)
    count = (today - _midnight(since)).days
    return today, days | {f"{today - number * _DAY:%Y-%m-%d}" for number in range(1, count + 1)}


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _start(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _dumps(days: Iterable[str]) -> str:
    return json.dumps(sorted(days)) if days else ""


def _read_days(reading: Reading, days: set[str]) -> Reading:
    """Compare days, the newest first, each noted when done; raises the failure of one that could not be read."""
    failure: PbxError | None = None
    for day in sorted(days, reverse=True):
        if reading.deadline.is_over:
            return reading
        try:
            reading = _read_part(reading, _start(day), _start(day) + _DAY)
        except _OUTAGES:
            raise
        except PbxError as error:
            reading, failure = reading.renewed(), error
            continue
        left = reading.checkpoint.days_left - {day}
        reading = reading.noted(left=_dumps(left), started=reading.checkpoint.started or not left)
    if failure is not None:
        raise failure
    return reading.advance() if days else reading


def _read_part(reading: Reading, first: datetime, last: datetime, *, backfill: bool = False) -> Reading:
    """Compare what happened between two times; what was read of it before a failure is noted, too."""
    part = Comparison(reading, backfill=backfill)
    try:
        read_range(part, again=not backfill, date_from=first, date_to=last + _MARGIN)
    finally:
        alarm_if_lost(reading, part.counts)
        seen, changes = reading.checkpoint, part.changes() | reading.note_unreadable(part.unreadable, whole=False)
        changes["waiting"] = min(filter(None, (seen.waiting, part.waiting)), default=None)
        changes |= {"page": max(part.page, seen.page), "lag": seen.lag}
        reading = reading.keep(**changes)
    return reading


def _begin_history(reading: Reading, since: datetime) -> Reading:
    """Note where history ends that POLL_START asks for: where the first window begins."""
    begin = reading.checkpoint.begin
    return reading.noted(history=since) if begin is None or begin < since else reading


def _read_months(reading: Reading) -> None:
    """
    Read history backwards, a month at a time, for a share of the run; each is noted when done.

    A month that is too long for that is read a day at a time. History ends where the PBX has nothing earlier.
    """
    reading = replace(
        reading, lane="backfill", deadline=Deadline(min(reading.deadline.at, time.monotonic() + LONGEST_HISTORY))
    )
    is_first = True
    while (end := reading.checkpoint.history) and not reading.deadline.is_over:
        if not _is_wanted(reading, end):
            reading = reading.noted(history=None, by_day=False)
            break
        first = _midnight(end - _MARGIN)
        if not reading.checkpoint.by_day:
            first = first.replace(day=1)
        try:
            reading = _read_part(reading, first, end, backfill=True)
        except _OUTAGES:
            raise
        except PbxError:
            reading = reading.renewed()
            if not reading.checkpoint.by_day:
                reading = reading.noted(by_day=True)
                continue
            if not is_first and reading.deadline.is_over:
                break
            # A day that cannot be read, though it had all the time, is left to later runs.
            left = reading.checkpoint.days_left | {f"{first:%Y-%m-%d}"}
            reading = reading.noted(left=_dumps(left))
        is_first = False
        reading = reading.noted(history=first, by_day=reading.checkpoint.by_day and first.day > 1)


def _is_wanted(reading: Reading, end: datetime) -> bool:
    """True if history before a time is asked for, and the PBX has any."""
    begin, months = reading.checkpoint.begin, reading.bridge.settings.retention_months
    cut = months_before(reading.moment, months) if months else None
    if any(first is not None and end < first - _DAY for first in (begin, cut)):
        return False
    operation = reading.resource.list_operation
    found: list[Item] = reading.bridge.pbx.call(operation, lane=reading.lane, limit=1, date_to=end)
    started = [event_time(item.get("callStarted")) for item in found[:1]]
    # A list that knows no dates has been read as a whole already.
    return any(moment is None or moment < end + _DAY for moment in started)
