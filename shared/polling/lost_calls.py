"""The poll of callers who wait to be called back: makes the events whose webhooks did not come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from shared import health
from shared.calls import lost_callers
from shared.calls.lost_callers import ADDED, REMOVED, UPDATED, other_day, same_day
from shared.items.content import drift
from shared.pbx.resources import Resource
from shared.polling.compare import pages
from shared.polling.missing import alarm_if_lost, submit_wanted
from shared.polling.run import follow
from shared.times import event_time
from shared.values import spelt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.calls.lost_callers import LostCaller
    from shared.items.store import Item
    from shared.polling.run import Run

# No row of RESOURCES: its items have no id, and are kept as the rows of their events.
_ROW = Resource(
    name="lost_calls",
    noun="LostCaller",
    list_operation="GetLostCalls",
    read_operation="GetLostCalls",
    id_field="callerid, destination",
    id_parameter="destination",
)
# Callers of whom the PBX is asked by their destination in one run, and those that a checkpoint remembers as missing.
_MOST_ASKED, _MOST_MISSING = 20, 200


def poll_lost_calls(bridge: Bridge, *, at: datetime | None = None) -> None:
    """
    Submit LostCallerAdded, Updated and Removed where no webhook did within the grace.

    A caller who waits since today and whom two polls have missed was called back, once the list of that destination
    lacks it too: each midnight empties the list. Raises as poll does.
    """
    follow(bridge, _ROW, _poll, at=at, started=True)


def _poll(run: Run) -> None:
    storage, state = run.bridge.storage, run.checkpoint.state
    listed, unreadable = _listed(run)
    waiting = {_number(one.id): one for one in lost_callers.listed(storage)}
    found = [(name, item) for key, item in listed.items() if (name := _event(run, item, waiting.get(key)))]
    for _, item in found:
        if unknown := drift(item, run.shape):
            health.drifted(storage, unknown)
    if not unreadable:
        gone, missing = _gone(run, listed, waiting)
        found, state = found + gone, " ".join(sorted(missing)[:_MOST_MISSING])
    count = run.for_each(lambda name, item: submit_wanted(run, [(name, item, None)], "reconciled"), found)
    alarm_if_lost(run, count)
    run.note_unreadable(unreadable)
    run.succeed(state=state, items=len(listed))


def _listed(run: Run, **filters: Any) -> tuple[dict[int, Item], list[Item]]:
    """Return the listed callers by the number of their pair, and the items without one."""
    found = [pair for page in pages(run, partial(_identify, run.bridge), **filters) for pair in page]
    return {id: item for id, item in found if id is not None}, [item for id, item in found if id is None]


def _identify(bridge: Bridge, item: Item) -> int | None:
    numbers = [spelt(item.get(name, False)) for name in ("callerid", "destination")]
    if None in numbers or not any((number or "").strip() for number in numbers):
        return None
    return _number(lost_callers.key(bridge.storage, numbers[0], numbers[1], bridge.settings.default_region))


def _number(id: str) -> int:
    return int(id[:15], 16)


def _event(run: Run, item: Item, known: LostCaller | None) -> str | None:
    """Return the event that a listed caller lacks, if any."""
    tried, begin = event_time(item.get("last_contact")), run.checkpoint.begin
    if tried and run.moment - tried < run.grace:
        return None
    if known is None:
        storage, region = run.bridge.storage, run.bridge.settings.default_region
        numbers = [spelt(item.get(name)) for name in ("callerid", "destination")]
        known = lost_callers.get(storage, lost_callers.key(storage, numbers[0], numbers[1], region))
    if known is None:
        return None if begin and tried and tried < begin.replace(microsecond=0) else ADDED
    # The list may be older than what the events said since.
    before = known.last or known.closed or run.moment
    waits = known.open and not other_day(before, run.moment)
    is_new = tried.replace(microsecond=0) > before if tried else other_day(before, run.moment)
    return (UPDATED if waits else ADDED) if is_new else None


def _gone(
    run: Run, listed: Mapping[int, Item], waiting: Mapping[int, LostCaller]
) -> tuple[list[tuple[str, Item]], set[str]]:
    """Return the removals that the PBX confirms, and the numbers of others that the list lacks."""
    found: list[tuple[str, Item]] = []
    before, missing, asked = set(run.checkpoint.state.split()), set[str](), 0
    for key, one in waiting.items():
        if key in listed or one.last is None or not same_day(one.last, run.moment):
            continue
        if str(key) in before and asked < _MOST_ASKED:
            asked += 1
            again, unreadable = _listed(run, **({"destination": one.destination} if one.destination else {}))
            if key not in again and not unreadable:
                found.append((REMOVED, {"callerid": one.callerid, "destination": one.destination}))
                continue
        missing.add(str(key))
    return found, missing
