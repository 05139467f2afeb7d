"""Polls the lists of resources, which are compared with the stored items, and the list of lost callers."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shared import health
from shared.bridge import Bridge
from shared.calls import lost_callers
from shared.calls.lost_callers import ADDED, REMOVED, UPDATED, LostCaller, same_day
from shared.errors import BudgetExhausted, PbxError
from shared.items import store
from shared.items.content import drift
from shared.items.store import Item
from shared.pbx.resources import LOST_CALLS, Resource
from shared.pbx.resources import resource as resource_of
from shared.polling.compare import OUTAGES, Comparison, submit_missing
from shared.polling.run import Run, checkpoints, follow
from shared.times import event_time, months_before, now
from shared.values import spelt

_DAY = timedelta(days=1)
# An ordinary run begins this long before the last success: the time zone of the PBX's dates is not documented, nor
# whether they include their bounds.
_LOOK_BACK = timedelta(hours=3)
_MARGIN = timedelta(minutes=1)
# Seconds of a run for history, which is read after news.
LONGEST_HISTORY = 20.0
# Callers whose removal is checked in one run.
_MOST_ASKED = 20


def poll(bridge: Bridge, resource: Resource, *, at: datetime | None = None) -> None:
    """Store the new, changed and removed items of a resource, and submit their events; raises as `follow` does."""
    follow(bridge, resource, _read_list if resource.editable else _read_windows, at=at)


def reconcile(bridge: Bridge, *, at: datetime | None = None) -> None:
    """Poll the resources with items whose webhook is overdue; raises the first failure after all polls."""
    moment, failures = at or now(), list[Exception]()
    for checkpoint in checkpoints(bridge.storage):
        if checkpoint.waiting and checkpoint.waiting <= moment:
            try:
                poll(bridge, resource_of(checkpoint.resource), at=at)
            except (PbxError, BudgetExhausted) as error:
                failures.append(error)
    if failures:
        raise failures[0]


def _read_list(run: Run) -> None:
    """Compare a whole list with all stored items, and remove those that the PBX no longer has."""
    # Stored items are read first, so that an older list does not undo changes of a newer one.
    comparison = Comparison(run, store.stored(run.bridge.storage, run.resource.name), whole=True)
    comparison.read()
    comparison.remove()
    run.succeed(items=sum(not row.removed for row in comparison.known.values()))


def _read_windows(run: Run) -> None:
    """Compare the time since the last success, then the days that are left, then a part of history."""
    if run.resource.withdrawn and run.thorough:
        # A deleted item may be of any age.
        _read_list(run)
        return
    since, days = _plan(run)
    left = run.checkpoint.days_left if run.checkpoint.started else days
    run.columns["left"] = " ".join(sorted(days | left))
    begin, earliest = run.checkpoint.begin, min([since, *map(_start, days)])
    if run.checkpoint.looked is None and (begin is None or begin < earliest):
        # History is read backwards from the start of the first window.
        run.columns["history"] = earliest
    comparison = Comparison(run)
    comparison.read(date_from=since)
    run.succeed()
    if days:
        _read_days(run, comparison, days, left)
    if run.thorough and not run.checkpoint.left:
        # The PBX's time zone may have cut off the first hours of the list.
        comparison.remove(since=earliest + _LOOK_BACK)
        run.save()
    try:
        if run.checkpoint.history:
            _read_months(run)
    except BudgetExhausted:
        # History has its own share of the budget; the next run goes on.
        run.save()


def _plan(run: Run) -> tuple[datetime, set[str]]:
    """Return the start of the window up to now, and the earlier days to be read one by one."""
    checkpoint, look_back = run.checkpoint, _LOOK_BACK + run.grace
    if run.thorough:
        look_back = timedelta(hours=run.bridge.settings.sweep_lookback_hours) + _DAY
    since = min(checkpoint.last_success or run.moment, run.moment) - look_back
    days = checkpoint.days_left if run.thorough or not checkpoint.last_error else set()
    if run.moment - since <= _DAY:
        return since, days
    today = _midnight(run.moment)
    count = (today - _midnight(since)).days
    return today, days | {f"{today - number * _DAY:%Y-%m-%d}" for number in range(1, count + 1)}


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _start(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _read_days(run: Run, comparison: Comparison, days: set[str], left: set[str]) -> None:
    """Compare days, newest first, and store each success; raise the last failure at the end."""
    failure: PbxError | None = None
    first = f"{run.checkpoint.started:%Y-%m-%d}"
    for day in sorted(days, reverse=True):
        if run.is_late:
            break
        # A day before the first reading is history until it has been read.
        comparison.backfill = day in left and day < first
        try:
            comparison.read(date_from=_start(day), date_to=_start(day) + _DAY + _MARGIN)
            run.save(left=" ".join(sorted(run.checkpoint.days_left - {day})))
        except OUTAGES:
            raise
        except PbxError as error:
            failure = error
    if failure is not None:
        raise failure
    if not run.checkpoint.left:
        run.succeed()


def _read_months(run: Run) -> None:
    """
    Read history backwards by month, for a share of the run; the progress is stored after each month.

    A month that takes too long is read by day. History ends when the PBX has nothing earlier.
    """
    longest, is_first = run.until, True
    run.lane, run.until = "backfill", min(run.until, time.monotonic() + LONGEST_HISTORY)
    while (end := run.checkpoint.history) and not run.is_late:
        if not _has_earlier(run, end, until=longest):
            run.save(history=None, by_day=False)
            return
        by_day, first = run.checkpoint.by_day, _midnight(end - _MARGIN)
        first = first if by_day else first.replace(day=1)
        try:
            Comparison(run, backfill=True).read(date_from=first, date_to=end + _MARGIN)
        except OUTAGES:
            raise
        except PbxError:
            if not by_day:
                run.save(by_day=True)
                continue
            if not is_first and run.is_late:
                return
            # A day that fails with the whole share of time is left to later runs.
            run.columns["left"] = " ".join(sorted(run.checkpoint.days_left | {f"{first:%Y-%m-%d}"}))
        is_first = False
        run.save(history=first, by_day=by_day and first.day > 1)


def _has_earlier(run: Run, end: datetime, *, until: float) -> bool:
    """Return True if POLL_START and the retention include time before `end`, and the PBX has items of it."""
    months, pbx, operation = run.bridge.settings.retention_months, run.bridge.pbx, run.resource.list_operation
    bounds = (run.checkpoint.begin, months_before(run.moment, months) if months else None)
    if any(bound is not None and end < bound - _DAY for bound in bounds):
        return False
    earlier: list[Item] = pbx.call(operation, lane=run.lane, until=until, limit=1, date_to=end)[:1]
    # A PBX that ignores dates has listed everything already.
    return any((event_time(item.get("callStarted")) or end) < end + _DAY for item in earlier)


def poll_lost_calls(bridge: Bridge, *, at: datetime | None = None) -> None:
    """
    Submit LostCallerAdded, Updated and Removed for webhooks missing after the grace; raises as `follow` does.

    A caller of today who is missing from two polls was called back if the destination's own list lacks the caller, too.
    Callers of earlier days are not removed, as each midnight empties the list.
    """
    follow(bridge, LOST_CALLS, _read_lost_calls, at=at)


def _read_lost_calls(run: Run) -> None:
    storage, state = run.bridge.storage, run.checkpoint.state
    run.columns["unreadable"] = 0
    listed = _listed(run)
    waiting = {caller.id: caller for caller in lost_callers.listed(storage)}
    events = [(name, item) for id, item in listed.items() if (name := _event(run, id, item, waiting.get(id)))]
    for _, item in events:
        if unknown := drift(item, run.resource.shape):
            health.drifted(storage, unknown)
    if not run.columns["unreadable"]:
        removals, missing = _removals(run, listed, waiting)
        # At random, so that callers who still wait at the PBX do not use up the lookups of every run.
        events, state = events + removals, " ".join(random.sample(missing, min(len(missing), _MOST_ASKED)))
    submit_missing(run, events, "reconciled")
    run.succeed(state=state, items=len(listed))


def _listed(run: Run, **filters: Any) -> dict[str, Item]:
    """Return the listed callers by the key of caller and destination."""
    storage, region = run.bridge.storage, run.bridge.settings.default_region

    def identify(item: Item) -> str | None:
        numbers = [spelt(item.get(name, False)) for name in ("callerid", "destination")]
        is_known = None not in numbers and any((number or "").strip() for number in numbers)
        return lost_callers.key(storage, numbers[0], numbers[1], region) if is_known else None

    return {id: item for page in run.pages(identify, **filters) for id, item in page}


def _event(run: Run, id: str, item: Item, known: LostCaller | None) -> str | None:
    """Return the name of the event that a listed caller lacks, if any."""
    tried, begin = event_time(item.get("last_contact")), run.checkpoint.begin
    if tried and run.moment - tried < run.grace:
        return None
    known = known or lost_callers.get(run.bridge.storage, id)
    if known is None:
        return None if begin and tried and tried < begin.replace(microsecond=0) else ADDED
    # The list may be older than the events received since.
    before = known.last or known.closed or run.moment
    waits = known.open and same_day(before, run.moment) is not False
    is_new = tried.replace(microsecond=0) > before if tried else same_day(before, run.moment) is False
    return (UPDATED if waits else ADDED) if is_new else None


def _removals(
    run: Run, listed: Collection[str], waiting: Mapping[str, LostCaller]
) -> tuple[list[tuple[str, Item]], list[str]]:
    """Return the removals that the PBX confirms, and the keys of other callers that the list lacks."""
    removals, missing, before = list[tuple[str, Item]](), list[str](), run.checkpoint.state.split()
    for id, caller in waiting.items():
        if id in listed or caller.last is None or not same_day(caller.last, run.moment):
            continue
        if id in before:
            again = _listed(run, **({"destination": caller.destination} if caller.destination else {}))
            if id not in again and not run.columns["unreadable"]:
                removals.append((REMOVED, {"callerid": caller.callerid, "destination": caller.destination}))
                continue
        missing.append(id)
    return removals, missing
