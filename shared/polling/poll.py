"""The poll of a resource: ranges of its list are compared with what is stored, news first, then what is older."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.errors import BudgetExhausted, PbxError, PbxForbidden, PbxThrottled, PbxUnreachable
from shared.items import store
from shared.pbx.resources import resource as resource_of
from shared.polling import checkpoints
from shared.polling.compare import Comparison
from shared.polling.run import follow
from shared.times import event_time, months_before, now

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.items.store import Item
    from shared.pbx.resources import Resource
    from shared.polling.run import Run

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
    for seen in checkpoints.read_all(bridge.storage):
        if seen.waiting and seen.waiting <= moment:
            try:
                poll(bridge, resource_of(seen.resource), at=at)
            except (PbxError, BudgetExhausted) as error:
                failures.append(error)
    if failures:
        raise failures[0]


def _read_list(run: Run) -> None:
    """
    Compare a whole list with all that is stored, and remove what it lacks and the PBX does not have.

    Stored rows are read first, so that an older list does not undo what a newer one had.
    """
    comparison = Comparison(run, store.stored(run.bridge.storage, run.resource.name), whole=True)
    comparison.read()
    comparison.remove()
    run.succeed()


def _read_windows(run: Run) -> None:
    """
    Compare what has happened since the last success, then the days that are left, then a part of history.

    A day that cannot be read to its end keeps what its readable pages had, and no other day waiting.
    """
    if run.resource.withdrawn and run.thorough:
        # A deleted item may be of any age.
        _read_list(run)
        return
    since, days = _plan(run)
    run.columns["left"] = " ".join(sorted(days | run.checkpoint.days_left))
    begin, earliest = run.checkpoint.begin, min([since, *map(_start, days)])
    if run.checkpoint.looked is None and (begin is None or begin < earliest):
        # History ends where the first window begins.
        run.columns["history"] = earliest
    Comparison(run).read(date_from=since)
    run.succeed()
    if days:
        _read_days(run, days)
    if run.checkpoint.history:
        _read_months(run)


def _plan(run: Run) -> tuple[datetime, set[str]]:
    """Return from when on everything is asked for in one piece, and the days before that, each by itself."""
    seen, look_back = run.checkpoint, _LOOK_BACK + run.grace
    if run.thorough:
        look_back = timedelta(hours=run.bridge.settings.sweep_lookback_hours) + _DAY
    since = min(seen.last_success or run.moment, run.moment) - look_back
    days = seen.days_left if run.thorough or not seen.last_error else set()
    if run.moment - since <= _DAY:
        return since, days
    today = _midnight(run.moment)
    count = (today - _midnight(since)).days
    return today, days | {f"{today - number * _DAY:%Y-%m-%d}" for number in range(1, count + 1)}


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _start(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _read_days(run: Run, days: set[str]) -> None:
    """Compare days, the newest first, each noted when done; raises the failure of one that could not be read."""
    failure: PbxError | None = None
    for day in sorted(days, reverse=True):
        if run.is_late:
            return
        try:
            Comparison(run).read(date_from=_start(day), date_to=_start(day) + _DAY + _MARGIN)
        except _OUTAGES:
            raise
        except PbxError as error:
            failure = error
            continue
        run.note(left=" ".join(sorted(run.checkpoint.days_left - {day})))
    if failure is not None:
        raise failure
    run.succeed()


def _read_months(run: Run) -> None:
    """
    Read history backwards, a month at a time, for a share of the run; each is noted when done.

    A month that is too long for that is read a day at a time. History ends where the PBX has nothing earlier.
    """
    run.lane, run.until = "backfill", min(run.until, time.monotonic() + LONGEST_HISTORY)
    is_first = True
    while (end := run.checkpoint.history) and not run.is_late:
        if not _is_wanted(run, end):
            run.note(history=None, by_day=False)
            return
        by_day, first = run.checkpoint.by_day, _midnight(end - _MARGIN)
        first = first if by_day else first.replace(day=1)
        try:
            Comparison(run, backfill=True).read(date_from=first, date_to=end + _MARGIN)
        except _OUTAGES:
            raise
        except PbxError:
            if not by_day:
                run.note(by_day=True)
                continue
            if not is_first and run.is_late:
                return
            # A day that cannot be read, though it had all the time, is left to later runs.
            run.columns["left"] = " ".join(sorted(run.checkpoint.days_left | {f"{first:%Y-%m-%d}"}))
        is_first = False
        run.note(history=first, by_day=by_day and first.day > 1)


def _is_wanted(run: Run, end: datetime) -> bool:
    """Return True if history before a time is asked for, and the PBX has any."""
    begin, months = run.checkpoint.begin, run.bridge.settings.retention_months
    cut = months_before(run.moment, months) if months else None
    if any(first is not None and end < first - _DAY for first in (begin, cut)):
        return False
    operation = run.resource.list_operation
    found: list[Item] = run.bridge.pbx.call(operation, lane=run.lane, limit=1, date_to=end)
    started = [event_time(item.get("callStarted")) for item in found[:1]]
    # A list that knows no dates has been read as a whole already.
    return any(moment is None or moment < end + _DAY for moment in started)
