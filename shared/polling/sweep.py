"""The sweep: what a cursor cannot see, found by comparing the PBX's lists with what is stored."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.errors import BudgetExhausted, Conflict, PbxError, PbxForbidden
from shared.items import index
from shared.items import reader as items
from shared.items.intake import Intake, row_of
from shared.pbx.resources import RESOURCES
from shared.polling import checkpoints, deletions, unended
from shared.polling.outcomes import alarm_if_stale, note_unreadable
from shared.polling.poll import poll
from shared.polling.reading import Reading, grace
from shared.polling.windows import Window, Windowed
from shared.storage.account import reaching_storage
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.items.reader import Item
    from shared.pbx.resources import Resource
    from shared.polling.checkpoints import Checkpoint

logger = logging.getLogger(__name__)

_LANE = "poll"


def sweep(bridge: Bridge, *, at: datetime | None = None) -> None:
    """
    Store what the polls have missed, and find out what has changed or gone.

    Dated lists are compared from `SWEEP_LOOKBACK_HOURS` before the last complete sweep on, editable ones and those
    whose items can be deleted as a whole, and calls that began and never ended are asked for by id, for a week. A
    resource that fails does not keep the others from being swept; the first failure is raised at the end.
    """
    moment, failures = at or now(), list[Exception]()
    with reaching_storage():
        unended.give_up(bridge, moment)
        for resource in RESOURCES:
            try:
                if resource.editable:
                    poll(bridge, resource, at=moment, whole=True)
                else:
                    _sweep(bridge, resource, moment)
            except (PbxError, BudgetExhausted, Conflict) as error:
                logger.warning("the sweep of %s ended early: %s", resource.name, error)
                failures.append(error)
        for checkpoint in checkpoints.read_all(bridge.storage):
            alarm_if_stale(checkpoint, moment)
    if failures:
        raise failures[0]


def _sweep(bridge: Bridge, resource: Resource, moment: datetime) -> None:
    checkpoint = checkpoints.read(bridge.storage, resource.name)
    if checkpoint is None or checkpoint.is_paused(moment):
        return
    reading = Reading(bridge=bridge, resource=resource, checkpoint=checkpoint, moment=moment)
    # What can be deleted is looked for wherever it stands; of the rest, as long ago as nobody has looked.
    since = None if resource.withdrawn else _since(bridge, checkpoint, moment)
    windowed = Windowed(bridge.pbx, resource, [Window(since=since)])
    listed, found = dict[int, "Item"](), 0
    try:
        for page in windowed.pages(lane=_LANE):
            found += _take(reading, page.items)
            if resource.withdrawn:
                listed |= page.items
        if resource.withdrawn and checkpoint.started:
            deletions.look_for(reading, listed, resource.withdrawn, all_readable=not windowed.unreadable)
    except PbxForbidden:
        # The poll says so, and pauses.
        logger.info("%s is not swept: the key may not read it", resource.name)
        return
    changes = {"swept": moment} | note_unreadable(reading, windowed.unreadable)
    checkpoint = checkpoints.change(bridge.storage, checkpoint, lambda now: replace(now, **changes))
    if found:
        logger.info("the sweep found %d of %s", found, resource.name)
    if resource.id_field == "callID":
        _late_ends(reading, checkpoint)


def _since(bridge: Bridge, checkpoint: Checkpoint, moment: datetime) -> datetime:
    """From when on to compare: so many hours ago, or as long before the last sweep as that had to reach."""
    lookback = timedelta(hours=bridge.settings.sweep_lookback_hours)
    return min(moment, checkpoint.swept or moment) - lookback


def _take(reading: Reading, found: Mapping[int, Item]) -> int:
    """Store the items that are new, and those that say more than they did; how many were new."""
    bridge, resource, moment = reading.bridge, reading.resource, reading.moment
    found = reading.kept(found)
    known = items.known(bridge.storage, resource.name, found)
    rows = [
        row_of(number, item, known.get(number), baseline=number not in known and not reading.wanted(number, item))
        for number, item in found.items()
    ]
    fresh = [row for row in rows if row.before is None]
    changed = [row for row in rows if row.before and (row.before.hash != row.hash or row.before.removed)]
    if not fresh and not changed:
        return 0
    intake = Intake(bridge.storage, resource.name)
    added = intake.add([row for row in fresh if not row.baseline], moment, due=moment + grace(bridge))
    before = [row for row in fresh if row.baseline]
    others = {row.id: found[row.id] for row in (*before, *changed)}
    index.add(bridge.storage, resource.name, others, bridge.settings.default_region)
    intake.add(before, moment)
    intake.overwrite(changed, moment)
    return added


def _late_ends(reading: Reading, checkpoint: Checkpoint) -> None:
    """
    Store what the PBX has of calls that began and never ended; what was found before a failure is kept.

    A failure says nothing of the list that was swept: it is noted by itself, and raised unless it is a 403.
    """
    found, failure = unended.look_for(reading.bridge, reading.moment)
    added = _take(reading, found)
    if added:
        logger.info("the sweep found %d ends of calls by id", added)
    error = f"{type(failure).__name__}: {failure}" if isinstance(failure, PbxError) else ""
    if error != checkpoint.sweep_error:
        checkpoints.change(reading.bridge.storage, checkpoint, lambda now: replace(now, sweep_error=error))
    if failure and not isinstance(failure, PbxForbidden):
        raise failure
    if failure:
        logger.warning("calls without an end cannot be looked up: %s", failure)
