"""Calls that began and never ended: looked for by id for a week, and then waited for no longer."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.calls.store import calls
from shared.errors import BudgetExhausted, PbxError, PbxForbidden, PbxNotFound, PbxThrottled, PbxUnreachable
from shared.events.store import feed_bounds, feed_page
from shared.identifiers import identifier
from shared.pbx.resources import resource
from shared.polling import checkpoints
from shared.polling.reading import ended_at
from shared.storage.rows import value_of
from shared.times import FIRST_CLOCK_ID, LAST_CLOCK_ID, MICROSECONDS_PER_SECOND, iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.errors import BridgeError
    from shared.items.reader import Item

logger = logging.getLogger(__name__)

# Calls without an end that one sweep asks for, and when one is looked for: after the usual call, within a week.
_MOST_LOOKUPS = 50
_MOST_CANDIDATES = 1000
_QUIET = timedelta(minutes=15)
_LONGEST = timedelta(days=7)
# Sweeps overlap by so much, as an event may have been on its way while the last one looked.
_OVERLAP = timedelta(days=2)


def give_up(bridge: Bridge, moment: datetime) -> None:
    """Wait no longer for the ends of calls that began a week ago, or since then as long as nobody has looked."""
    checkpoint = checkpoints.read(bridge.storage, "call_history")
    looked = checkpoint.swept if checkpoint and checkpoint.swept else moment
    since = min(looked, moment) - _OVERLAP
    stories = calls(bridge.storage, bridge.settings.default_region)
    unended = stories.without_end(since - _LONGEST, moment - _LONGEST, _MOST_CANDIDATES)
    unended += [id for id in set(_late(bridge, since, moment)) if stories.is_without_end(id)]
    for call_id in unended:
        stories.give_up(call_id)
    if unended:
        logger.info("%d calls have no end after a week", len(unended))


def _late(bridge: Bridge, since: datetime, moment: datetime) -> Iterator[int]:
    """Calls that had begun long before we heard of them, and those of a week ago that do not say when they began."""
    a_week_ago = moment - _LONGEST
    spelt = int(a_week_ago.timestamp()) * MICROSECONDS_PER_SECOND
    began = f"(happened le datetime'{iso(a_week_ago)}' or (callID ge {FIRST_CLOCK_ID}L and callID le {spelt}L))"
    no_clock = f"(callID lt {FIRST_CLOCK_ID}L or callID gt {LAST_CLOCK_ID}L)"
    for first, last, condition in ((since, moment, began), (since - _LONGEST, a_week_ago, no_clock)):
        conditions = [*feed_bounds(first, last), condition, "callID ge 0L", "type ne 'CallCompleted'"]
        start, more = None, True
        while more:
            rows, start = feed_page(bridge.storage, conditions, start, _MOST_CANDIDATES)
            yield from (value_of(row["callID"]) for row in rows)
            more = start is not None


def look_for(bridge: Bridge, moment: datetime) -> tuple[Mapping[int, Item], BridgeError | None]:
    """What `ended` finds of calls that began and never ended: history may have them outside of the swept days."""
    stories = calls(bridge.storage, bridge.settings.default_region)
    found = stories.without_end(moment - _LONGEST, moment - _QUIET, _MOST_CANDIDATES)
    if len(found) > _MOST_LOOKUPS:
        # Those that never get an end must not keep the others from being looked for: each hour begins elsewhere.
        begin = int(moment.timestamp() // 3600) * _MOST_LOOKUPS % len(found)
        found = (found[begin:] + found[:begin])[:_MOST_LOOKUPS]
    return ended(bridge, found)


def ended(bridge: Bridge, ids: Iterable[int]) -> tuple[Mapping[int, Item], BridgeError | None]:
    """
    What the PBX, asked by id, has of calls that have ended.

    One that it has no good answer for keeps the others from nothing; such a failure comes with what was found.
    """
    row, found, failure = resource("call_history"), dict[int, "Item"](), None
    for call_id in ids:
        try:
            item = bridge.pbx.call(row.read_operation, lane="poll", **{row.id_parameter: call_id})
        except PbxNotFound:
            continue
        except (PbxForbidden, PbxThrottled, PbxUnreachable, BudgetExhausted) as error:
            return found, error
        except PbxError as error:
            failure = error
            continue
        # Under another id it is another call, and some still go on.
        if identifier(item.get(row.id_field)) == call_id and ended_at(item):
            found[call_id] = item | {row.id_field: call_id}
    return found, failure
