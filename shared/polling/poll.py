"""The poll of a resource: ranges of its list are compared with what is stored, news first, then what is older."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, PbxError, PbxForbidden, PbxThrottled, PbxUnreachable
from shared.items import store
from shared.pbx.resources import RESOURCES
from shared.polling import checkpoints
from shared.polling.compare import Comparison
from shared.polling.missing import alarm_if_lost
from shared.polling.pages import Deadline, pages
from shared.polling.reading import follow, grace
from shared.storage.account import reaching_storage
from shared.times import event_time, months_before, now

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.items.store import Item
    from shared.pbx.resources import Resource
    from shared.polling.pages import Page
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


def poll(bridge: Bridge, resource: Resource, *, at: datetime | None = None) -> None:
    """
    Store what is new of a resource, what has changed and what is gone, and submit the events of it.

    Contacts, groups and the like are listed as a whole. Calls, recordings and voicemails are listed from three hours
    before the last success on; once an hour, and after a run that failed, from SWEEP_LOOKBACK_HOURS and a
    day before it, voicemails from the beginning. Raises as `follow` does.
    """
    follow(bridge, resource, _read_list if resource.editable else _read_windows, at=at)


def reconcile(bridge: Bridge, *, at: datetime | None = None) -> None:
    """Poll what has items whose webhook is late by now, so that their events are made; the first failure is raised."""
    moment, failures = at or now(), list[Exception]()
    with reaching_storage():
        waiting = {one.resource: one.waiting for one in checkpoints.read_all(bridge.storage) if one.waiting}
    for resource in RESOURCES:
        if resource.name in waiting and waiting[resource.name] <= moment:
            try:
                poll(bridge, resource, at=at)
            except (PbxError, BudgetExhausted) as error:
                failures.append(error)
    if failures:
        raise failures[0]


def _read_list(reading: Reading) -> None:
    """Compare a whole list with what is stored, and note the success."""
    comparison = _compare_whole(reading)
    count = sum(not row.removed for row in comparison.known.values())
    changes = reading.note_unreadable(comparison.unreadable) | comparison.changes() | {"items": count}
    started = reading.checkpoint.started or comparison.failure is None
    _conclude(reading, comparison.failure, started=started, **changes)


def _compare_whole(reading: Reading) -> Comparison:
    """
    Compare a whole list with all that is stored, and remove what it lacks and the PBX does not know.

    Stored rows are read first, so that an older reading does not undo what a newer one found. The comparison has the
    failure that kept the list from being read to its end; what was read of it is written all the same.
    """
    known = store.stored(reading.bridge.storage, reading.resource.name)
    comparison = Comparison(reading, known, is_whole=True)
    try:
        _read_range(comparison)
        comparison.failure = comparison.remove()
    except PbxForbidden:
        raise
    except (PbxError, BudgetExhausted) as error:
        comparison.failure = error
    return comparison


def _conclude(reading: Reading, failure: PbxError | BudgetExhausted | None, **changes: Any) -> Reading:
    """Return the reading once its success is noted; raises its failure, with what was read noted all the same."""
    if failure is None:
        return reading.advance(**changes | ({"looked": reading.moment} if reading.is_thorough else {}))
    reading.keep(**changes)
    raise failure


def _read_range(comparison: Comparison, *, again: bool = True, **filters: Any) -> None:
    """
    Compare a range of a list, read to its end, and write what has changed, also where the reading fails.

    Offsets move while a list grows: a range of more than one page in which something was new is read once more.
    """
    try:
        if _read_pages(comparison, filters) and again:
            _read_pages(comparison, filters)
    finally:
        comparison.finish()


def _read_pages(comparison: Comparison, filters: dict[str, Any]) -> bool:
    """Compare the pages of a range; return True where there were several, and something new."""
    reading, found, count = comparison.reading, False, 0
    for page in pages(
        reading.bridge.pbx, reading.resource,
        lane=reading.lane, deadline=reading.deadline, unreadable=comparison.unreadable, **filters,
    ):  # fmt: skip
        count += 1
        is_new = comparison.take(page)
        found |= is_new
        if count == 1 and not reading.is_thorough and _is_all(page, comparison, is_new=is_new):
            break
    return found and count > 1


def _is_all(page: Page, comparison: Comparison, *, is_new: bool) -> bool:
    """
    True if an ordinary run needs no second page: the PBX has given larger ones, or the newest of a list are known.

    A thorough run takes nothing for granted.
    """
    if page.size < comparison.reading.checkpoint.page:
        return True
    live = sum(not row.removed for row in comparison.known.values()) if comparison.is_whole else 0
    return page.is_newest_first and not is_new and len(page.items) >= live


def _read_windows(reading: Reading) -> None:
    """
    Compare what has happened since the last success, then the days that are left, then a part of history.

    A day that cannot be read to its end keeps what its readable pages had, and no other day waiting.
    """
    since, days = _plan(reading)
    left = days | reading.checkpoint.days_left
    if reading.resource.withdrawn and reading.is_thorough:
        # A deleted item may be of any age.
        news, days, left = _compare_whole(reading), set[str](), set[str]()
    else:
        if reading.checkpoint.looked is None and not reading.resource.withdrawn:
            reading = _begin_history(reading, min([since, *map(_start, days)]))
        news = Comparison(reading)
        try:
            _read_range(news, date_from=since)
        except PbxForbidden:
            raise
        except (PbxError, BudgetExhausted) as error:
            news.failure = error
    if news.counts:
        alarm_if_lost(reading, news.counts)
    changes = reading.note_unreadable(news.unreadable, whole=reading.is_thorough) | news.changes()
    started = reading.checkpoint.started or not (news.failure or left)
    reading = _conclude(reading, news.failure, left=" ".join(sorted(left)), started=started, **changes)
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
        reading = reading.noted(left=" ".join(sorted(left)), started=reading.checkpoint.started or not left)
    if failure is not None:
        raise failure
    return reading.advance() if days else reading


def _read_part(reading: Reading, first: datetime, last: datetime, *, backfill: bool = False) -> Reading:
    """Compare what happened between two times; what was read of it before a failure is noted, too."""
    part = Comparison(reading, backfill=backfill)
    try:
        _read_range(part, again=not backfill, date_from=first, date_to=last + _MARGIN)
    finally:
        alarm_if_lost(reading, part.counts)
        seen, changes = reading.checkpoint, part.changes() | reading.note_unreadable(part.unreadable, whole=False)
        changes["waiting"] = min(filter(None, (seen.waiting, part.waiting)), default=None)
        changes |= {"page": max(part.page, seen.page), "lag": seen.lag}
        reading = reading.keep(**changes)
    return reading


def _begin_history(reading: Reading, since: datetime) -> Reading:
    """Record that history, if POLL_START asks for it, ends where the first window begins."""
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
            reading = reading.noted(left=" ".join(sorted(left)))
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
