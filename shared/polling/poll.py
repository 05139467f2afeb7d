"""The poll of a resource: a range of its list is compared with what is stored."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, PbxError, PbxForbidden
from shared.pbx.resources import RESOURCES
from shared.polling import checkpoints
from shared.polling.checkpoints import Checkpoint
from shared.polling.ranges import read_list
from shared.polling.reading import Reading, is_thorough, refusals
from shared.polling.windows import read_windows
from shared.storage.account import reaching_storage
from shared.times import now, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.pbx.resources import Resource

logger = logging.getLogger(__name__)

# A key that is allowed again is noticed after so long; meanwhile the resource costs one call each time.
PAUSE = timedelta(minutes=5)


def poll(bridge: Bridge, resource: Resource, *, at: datetime | None = None) -> None:
    """
    Store what is new of a resource, what has changed and what is gone, and submit the events of it.

    What is (contacts, groups, …) is listed as a whole. What happens (calls, recordings, voicemails) is listed from
    three hours before the last success on; once an hour, and after a run that failed, from SWEEP_LOOKBACK_HOURS and a
    day before it, voicemails from the beginning. Raises as `follow` does.
    """
    follow(bridge, resource, read_list if resource.editable else read_windows, at=at)


def follow(
    bridge: Bridge, resource: Resource, read: Callable[[Reading], None], *, at: datetime | None = None, **first: Any
) -> None:
    """
    Have a resource read on from its checkpoint, which is made with these columns at `first`.

    One that the key may not read is asked for every five minutes only, and a first reading that the budget has no calls
    for goes on later. Raises any other PbxError or BudgetExhausted that ended the reading, which the checkpoint then
    shows, or StorageUnavailable; the next one goes on where this one ended.
    """
    moment, start = at or now(), bridge.settings.poll_start
    with reaching_storage():
        checkpoint = checkpoints.read(bridge.storage, resource.name)
        if checkpoint is None:
            begin = None if start == "all" else moment if start == "now" else parse_time(start)
            logger.info("%s is read for the first time, from what came since %s on", resource.name, begin or "ever")
            checkpoint = checkpoints.create(bridge.storage, Checkpoint(resource=resource.name, begin=begin, **first))
        if checkpoint.is_paused(moment):
            return
        thorough = is_thorough(checkpoint, moment)
        reading = Reading(
            bridge=bridge, resource=resource, checkpoint=checkpoint, moment=moment, is_thorough=thorough
        )  # fmt: skip
        try:
            read(reading)
        except PbxForbidden as error:
            _pause(reading, error)
        except BudgetExhausted as error:
            logger.warning("signal budget_exhausted resource=%s", resource.name)
            reading.renewed().note_error(error)
            if checkpoint.started:
                raise
        except PbxError as error:
            reading.renewed().note_error(error)
            raise


def _pause(reading: Reading, error: PbxForbidden) -> None:
    """Pause the resource, and say so where the PBX refuses all that is asked of it."""
    since, storage = reading.checkpoint.forbidden_since or reading.moment, reading.bridge.storage
    refusals(storage)[:] = [reading.moment]
    logger.warning("%s is paused for %d minutes: %s", reading.resource.name, PAUSE.seconds // 60, error)
    reading.note_error(error, paused_until=reading.moment + PAUSE, forbidden_since=since)
    if since_all := checkpoints.forbidden_since(checkpoints.read_all(storage)):
        seconds = int((reading.moment - since_all).total_seconds())
        logger.warning("signal pbx_forbidden seconds=%d: %s", seconds, checkpoints.FORBIDDEN)


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
