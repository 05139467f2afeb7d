"""The sweep: what a cursor cannot see, found by comparing the PBX's lists with what is stored."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.errors import BudgetExhausted, Conflict, PbxError, PbxForbidden
from shared.events.receive import submit
from shared.items import reader as items
from shared.items.intake import Intake
from shared.pbx.resources import RESOURCES
from shared.polling import checkpoints, removals, unended
from shared.polling.poll import poll
from shared.polling.reading import Reading, as_event
from shared.polling.windows import Window, Windowed
from shared.storage.account import reaching_storage
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.items.reader import Item
    from shared.pbx.resources import Resource

logger = logging.getLogger(__name__)


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
            checkpoints.alarm_if_stale(checkpoint, moment)
    if failures:
        raise failures[0]


def _sweep(bridge: Bridge, resource: Resource, moment: datetime) -> None:
    checkpoint = checkpoints.read(bridge.storage, resource.name)
    if checkpoint is None or checkpoint.is_paused(moment):
        return
    reading = Reading(bridge=bridge, resource=resource, checkpoint=checkpoint, moment=moment)
    # What can be deleted is looked for wherever it stands; of the rest, as long ago as nobody has looked.
    since = min(moment, checkpoint.swept or moment) - timedelta(hours=bridge.settings.sweep_lookback_hours)
    windowed = Windowed(bridge.pbx, resource, [Window(since=None if resource.withdrawn else since)])
    listed, found = dict[int, "Item"](), 0
    try:
        for page in windowed.pages(lane="poll"):
            found += _take(reading, page.items)
            if resource.withdrawn:
                listed |= page.items
        if resource.withdrawn and checkpoint.started:
            _look_for_deletions(reading, listed, resource.withdrawn, all_readable=not windowed.unreadable)
    except PbxForbidden:
        # The poll says so, and pauses.
        logger.info("%s is not swept: the key may not read it", resource.name)
        return
    reading = reading.noted(swept=moment, **reading.note_unreadable(windowed.unreadable))
    if found:
        logger.info("the sweep found %d of %s", found, resource.name)
    if resource.id_field == "callID":
        _late_ends(reading)


def _take(reading: Reading, found: Mapping[int, Item]) -> int:
    """Store the items that are new, and those that say more than they did; how many were new."""
    storage, name, found = reading.bridge.storage, reading.resource.name, reading.kept(found)
    rows = reading.changed(found, items.known(storage, name, found))
    return reading.store(Intake(storage, name), rows, found) if rows else 0


def _look_for_deletions(reading: Reading, listed: Mapping[int, Item], event: str, *, all_readable: bool) -> None:
    """
    Submit an event for each stored item that a complete listing lacks, once the proof of removals is there.

    Its origin is `reconciled`: nobody said that it was deleted, so no audio is deleted for it.
    """
    bridge, resource = reading.bridge, reading.resource
    intake, known = Intake(bridge.storage, resource.name), items.known(bridge.storage, resource.name)
    rows, last, _ = removals.gone(reading, intake, known, listed, all_readable=all_readable)
    for number, item in last.items():
        data = as_event(item, resource, event) | {resource.id_field: number}
        submit(bridge.storage, bridge.settings, event, data, origin="reconciled")
    intake.overwrite(rows, reading.moment)


def _late_ends(reading: Reading) -> None:
    """
    Store what the PBX has of calls that began and never ended; what was found before a failure is kept.

    A failure says nothing of the list that was swept: it is noted by itself, and raised unless it is a 403.
    """
    found, failure = unended.look_for(reading.bridge, reading.moment)
    added = _take(reading, found)
    if added:
        logger.info("the sweep found %d ends of calls by id", added)
    error = f"{type(failure).__name__}: {failure}" if isinstance(failure, PbxError) else ""
    if error != reading.checkpoint.sweep_error:
        reading.noted(sweep_error=error)
    if failure and not isinstance(failure, PbxForbidden):
        raise failure
    if failure:
        logger.warning("calls without an end cannot be looked up: %s", failure)
