"""The poll of a resource: read the checkpoint, page, hand on, store, and only then advance."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from shared.events import parties
from shared.polling import checkpoints
from shared.polling.checkpoints import Checkpoint
from shared.polling.news import read_facts
from shared.polling.outcomes import noting
from shared.polling.reading import Reading, first_moment
from shared.polling.whole_lists import read_edits
from shared.polling.windows import Window, dumps
from shared.storage.account import reaching_storage
from shared.times import now

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.pbx.resources import Resource

logger = logging.getLogger(__name__)


def poll(bridge: Bridge, resource: Resource, *, at: datetime | None = None, whole: bool = False) -> None:
    """
    Bring what is new of a resource, and of what can be edited also what has changed or gone.

    `whole` compares everything even if the list looks as it did. A resource that the key may not read is asked for
    every five minutes only. Raises the PbxError or BudgetExhausted that ended it, which the checkpoint then shows, or
    StorageUnavailable; the next poll goes on where this one ended.
    """
    moment = at or now()
    with reaching_storage():
        checkpoint = checkpoints.read(bridge.storage, resource.name) or _first(bridge, resource, moment)
        if checkpoint.is_paused(moment):
            return
        reading = Reading(bridge=bridge, resource=resource, checkpoint=checkpoint, moment=moment)
        with noting(reading):
            if resource.editable:
                read_edits(reading, whole)
            else:
                read_facts(reading)


def _first(bridge: Bridge, resource: Resource, moment: datetime) -> Checkpoint:
    begin = first_moment(bridge, moment)
    logger.info("%s is read for the first time; handed on is what came since %s", resource.name, begin or "ever")
    parties.cover(bridge.storage, resource.name)
    left = "" if resource.editable else dumps([Window()])
    return checkpoints.create(bridge.storage, Checkpoint(resource=resource.name, begin=begin, left=left))
