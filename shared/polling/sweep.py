"""The sweep: what a cursor cannot see, found by comparing the PBX's lists with what is stored."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.calls.store import calls
from shared.errors import (
    BudgetExhausted,
    Conflict,
    PbxError,
    PbxForbidden,
    PbxNotFound,
    PbxThrottled,
    PbxUnreachable,
)
from shared.items import reader as items
from shared.items.intake import Intake, batches, row_of
from shared.pbx.resources import RESOURCES
from shared.polling import checkpoints
from shared.polling.pages import id_of, pages
from shared.polling.poll import alarm_if_stale, poll
from shared.polling.reading import grace
from shared.storage.account import reaching_storage
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.errors import BridgeError
    from shared.items.reader import Item
    from shared.pbx.resources import Resource

logger = logging.getLogger(__name__)

_LANE = "poll"
# Calls without an end that one sweep asks for, and when one is looked for: after the usual call, within a week.
_MOST_LOOKUPS = 50
_MOST_CANDIDATES = 1000
_QUIET = timedelta(minutes=15)
_LONGEST = timedelta(days=7)


def sweep(bridge: Bridge, *, at: datetime | None = None) -> None:
    """
    Store what the polls have missed, and find out what has changed or gone.

    Dated lists are compared from `SWEEP_LOOKBACK_HOURS` ago on, editable ones as a whole, and calls that began
    and never ended are asked for by id. A resource that fails does not keep the others from being swept; the first
    failure is raised at the end.
    """
    moment, failures = at or now(), list[Exception]()
    with reaching_storage():
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
    if checkpoint is None or not checkpoint.started or _paused(checkpoint.paused_until, moment):
        return
    since = moment - timedelta(hours=bridge.settings.sweep_lookback_hours)
    found = 0
    try:
        for page in pages(bridge.pbx, resource, lane=_LANE, date_from=since, **{resource.cursor_parameter: 0}):
            found += _take(bridge, resource, page.items, moment)
        if resource.id_field == "callID":
            found += _look_for_ends(bridge, resource, moment)
    except PbxForbidden:
        # The poll says so, and pauses.
        logger.info("%s is not swept: the key may not read it", resource.name)
    if found:
        logger.info("the sweep found %d of %s", found, resource.name)


def _paused(until: datetime | None, moment: datetime) -> bool:
    return until is not None and moment < until


def _take(bridge: Bridge, resource: Resource, found: Mapping[int, Item], moment: datetime) -> int:
    """Store the items that are new, and those that say more than they did; how many were new."""
    known = items.known(bridge.storage, resource.name, found)
    rows = [row_of(number, item, known.get(number)) for number, item in found.items()]
    fresh = [row for row in rows if row.before is None]
    changed = [row for row in rows if row.before is not None and row.before.hash != row.hash]
    if not fresh and not changed:
        return 0
    intake = Intake(bridge.storage, resource.name)
    added = intake.add(fresh, moment, due=moment + grace(bridge))
    for batch in batches(changed):
        intake.overwrite(batch, moment)
    return added


def _look_for_ends(bridge: Bridge, resource: Resource, moment: datetime) -> int:
    """
    Ask by id for calls that began and never ended: history may have them outside of the swept days.

    One that the PBX has no good answer for keeps the others from nothing; such a failure is raised at the end.
    """
    found: dict[int, Item] = {}
    failure: BridgeError | None = None
    for call_id in _endless(bridge, moment):
        try:
            item = bridge.pbx.call(resource.read_operation, lane=_LANE, **{resource.id_parameter: call_id})
        except PbxNotFound:
            continue
        except (PbxForbidden, PbxThrottled, PbxUnreachable, BudgetExhausted) as error:
            failure = error
            break
        except PbxError as error:
            failure = error
            continue
        # Some tell of a call that still goes on.
        if id_of(resource, item) == call_id and item.get("callEnded"):
            found[call_id] = item
    added = _take(bridge, resource, found, moment)
    if failure:
        raise failure
    return added


def _endless(bridge: Bridge, moment: datetime) -> list[int]:
    first, last = moment - _LONGEST, moment - _QUIET
    stories = calls(bridge.storage, bridge.settings.default_region)
    found = stories.without_end(first, last, _MOST_CANDIDATES)
    if len(found) > _MOST_LOOKUPS:
        # Those that never get an end must not keep the others from being looked for: each hour begins elsewhere.
        begin = int(moment.timestamp() // 3600) * _MOST_LOOKUPS % len(found)
        found = (found[begin:] + found[:begin])[:_MOST_LOOKUPS]
    return found
