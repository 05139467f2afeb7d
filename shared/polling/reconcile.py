"""Webhooks that never came, restored from what was polled."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.events.receive import submit
from shared.events.table import wanted_events
from shared.items import index
from shared.items import reader as items
from shared.items.head import drop_mark, due_marks, mark_pending
from shared.items.intake import Intake, row_of
from shared.pbx.resources import resource
from shared.polling import odd_items, unended
from shared.polling.missing import MISSING
from shared.polling.reading import grace
from shared.storage.account import reaching_storage
from shared.times import iso, now, parse_time
from shared.webhooks.table import ended_since

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.items.reader import Item
    from shared.pbx.resources import Resource
    from shared.polling.missing import Missing
    from shared.polling.odd_items import Odd

logger = logging.getLogger(__name__)

# What one run takes on for each resource; the next goes on.
_MOST_MARKS = 200
# Calls without an end that one run asks the PBX for; each is asked for at growing distances, for a week.
_MOST_LOOKUPS = 50
_LONGEST_DELAY = timedelta(hours=1)
_LONGEST_OPEN = timedelta(days=7)


def reconcile(bridge: Bridge, *, at: datetime | None = None) -> int:
    """
    Submit the events of polled calls, recordings and voicemails whose webhook has not come within the grace.

    What is missing goes through the pipeline as that webhook's event, under the id that the webhook would have
    had: a late one changes nothing. What a list knows beyond an event that came completes it, as a repeat. A call that
    goes on is looked at again until it has ended. Returns how many missing events were submitted. Raises
    StorageUnavailable; the next run goes on.
    """
    moment = at or now()
    with reaching_storage():
        return sum(_reconcile(bridge, resource(name), missing, moment) for name, missing in MISSING.items())


def _reconcile(bridge: Bridge, row: Resource, missing: Missing, moment: datetime) -> int:
    wanted = {event.name for event in wanted_events(bridge.settings.pbx_events)}
    run = _Run(bridge, row, missing, wanted, moment)
    counts = Counter[str]()
    for mark in due_marks(bridge.storage, row.name, moment, _MOST_MARKS):
        origin = "backfill" if mark.get("backfill") else "reconciled"
        counts[origin] += run.settle(mark, origin)
        drop_mark(bridge.storage, mark)
    # Without an address for them, or after their end, there are no webhooks to lose.
    if counts["reconciled"] and bridge.settings.public_base_url and not ended_since(bridge.storage):
        logger.warning("signal webhook_loss resource=%s events=%d", row.name, counts["reconciled"])
    return counts.total()


@dataclass(slots=True)
class _Run:
    """One run for one resource: each item on its own, so that an odd one keeps no other from being settled."""

    bridge: Bridge
    row: Resource
    missing: Missing
    wanted: Set[str]
    moment: datetime
    lookups: int = _MOST_LOOKUPS

    def settle(self, mark: Mapping[str, Any], origin: str) -> int:
        """Submit what is missing of a mark's items, and mark those again that can still change; how many events."""
        count, still_open = self._settle_all(json.loads(mark["ids"]), origin)
        return count + self._look_again(mark, still_open, origin) if still_open else count

    def _settle_all(self, ids: Sequence[int], origin: str) -> tuple[int, list[int]]:
        """Submit what is missing of these items; how many events, and which of the items can still change."""
        storage, name = self.bridge.storage, self.row.name
        done = odd_items.each(storage, name, partial(self._settle, origin), ids)
        settled = dict(zip(ids, done, strict=True))
        stored = {number: item for number, (item, _, _) in settled.items() if item}
        index.add(storage, name, stored, self.bridge.settings.default_region)
        still_open = [number for number, (_, _, is_open) in settled.items() if is_open]
        return sum(count for _, count, _ in done), still_open

    def _settle(self, origin: str, number: int, odd: list[Odd]) -> tuple[Item, int, bool]:
        """What is stored of an item, how many events of it were missing, and whether it can still change."""
        storage, settings = self.bridge.storage, self.bridge.settings
        item: Item = {}
        with odd_items.set_aside(body := {self.row.id_field: number}, odd):
            item = items.stored(storage, self.row.name, number) or {}
            body |= item
            found = self.missing(self.bridge, number, item)
            events = [(name, data, None) for name, data in found.events if name in self.wanted]
            for name, data, id in (*events, *found.more):
                with odd_items.set_aside({"eventType": name, "data": dict(data)}, odd):
                    submit(storage, settings, name, data, origin=origin, id=id)
            return item, len(events), found.open
        return item, 0, False

    def _look_again(self, mark: Mapping[str, Any], ids: list[int], origin: str) -> int:
        """
        Ask the PBX for items that could still change when they were polled, and settle those that no longer can.

        The others are marked for later, at growing distances for a week.
        """
        storage, name, count = self.bridge.storage, self.row.name, 0
        since = parse_time(mark["since"]) if mark.get("since") else self.moment
        asked = ids[: self.lookups] if mark.get("since") else []
        self.lookups -= len(asked)
        fresh, failure = unended.ended(self.bridge, asked)
        if failure:
            logger.info("calls are asked for later: %s", type(failure).__name__)
        if fresh:
            known = items.known(storage, name, fresh)
            rows = [row_of(number, item, known.get(number)) for number, item in fresh.items()]
            Intake(storage, name).overwrite(rows, self.moment)
            count, _ = self._settle_all([*fresh], origin)
        left = [number for number in ids if number not in fresh]
        if left and self.moment - since < _LONGEST_OPEN:
            due = self.moment + min(max((self.moment - since) / 2, grace(self.bridge)), _LONGEST_DELAY)
            mark_pending(storage, name, left, due, backfill=origin == "backfill", since=iso(since))
        return count
