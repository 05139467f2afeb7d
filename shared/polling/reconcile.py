"""Webhooks that never came, restored from what was polled."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, Conflict, Invalid, PbxError, StorageUnavailable
from shared.events.receive import submit
from shared.items import index
from shared.items import reader as items
from shared.items.head import drop_mark, due_marks, mark_pending
from shared.items.intake import Intake, row_of
from shared.pbx.resources import resource
from shared.polling import odd_items
from shared.polling.missing import MISSING
from shared.polling.reading import call_from, ended_at, grace
from shared.storage.account import reaching_storage
from shared.times import iso, now, parse_time
from shared.webhooks.table import ended_since, wanted_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Set
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.items.reader import Item
    from shared.pbx.resources import Resource
    from shared.polling.missing import Missing


logger = logging.getLogger(__name__)

# What one run takes on for each resource; the next goes on.
_MOST_MARKS = 200
_WORKERS = 8
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
    wanted = {event.name for event in wanted_events(bridge.settings)}
    run = _Run(bridge, row, missing, wanted, moment)
    restored = 0
    for mark in due_marks(bridge.storage, row.name, moment, _MOST_MARKS):
        origin = "backfill" if mark.get("backfill") else "reconciled"
        count = run.settle(mark, origin)
        restored += count if origin == "reconciled" else 0
        drop_mark(bridge.storage, mark)
    # Without an address for them, or after their end, there are no webhooks to lose.
    if restored and bridge.settings.public_base_url and not ended_since(bridge.storage):
        logger.warning("signal webhook_loss resource=%s events=%d", row.name, restored)
    return run.submitted


class _Run:
    """One run for one resource: each item on its own, so that an odd one keeps no other from being settled."""

    def __init__(self, bridge: Bridge, row: Resource, missing: Missing, wanted: Set[str], moment: datetime) -> None:
        self._bridge, self._row, self._missing, self._wanted = bridge, row, missing, wanted
        self._moment = moment
        self._lookups = _MOST_LOOKUPS
        self.submitted = 0

    def settle(self, mark: Mapping[str, Any], origin: str) -> int:
        """Submit what is missing of a mark's items, and mark those again that can still change; how many events."""
        ids = [*json.loads(mark["ids"])]
        settled = self._settle_all(ids, origin)
        again = [number for number, outcome in zip(ids, settled, strict=True) if outcome.open]
        count = sum(outcome.events for outcome in settled)
        if again:
            count += self._look_again(mark, again, origin)
        self.submitted += count
        return count

    def _settle_all(self, ids: list[int], origin: str) -> list[_Settled]:
        with ThreadPoolExecutor(_WORKERS if len(ids) > _WORKERS else 1) as pool:
            settled = list(pool.map(partial(self._settle, origin=origin), ids))
        for outcome in settled:
            if outcome.odd:
                # Here: the host drops what threads log that it does not know.
                odd_items.keep(self._bridge.storage, self._row.name, *outcome.odd)
        listed = {number: outcome.item for number, outcome in zip(ids, settled, strict=True) if outcome.item}
        index.add(self._bridge.storage, self._row.name, listed, self._bridge.settings.default_region)
        return settled

    def _settle(self, number: int, origin: str) -> _Settled:
        item: Item = {}
        try:
            with reaching_storage():
                item = items.stored(self._bridge.storage, self._row.name, number) or {}
                found = self._missing(self._bridge, number, item)
                outcome = _Settled(item=item, open=found.open)
                for name, data in found.events:
                    if name in self._wanted:
                        outcome.events += 1
                        self._submit(outcome, name, data, origin)
                for name, data, id in found.more:
                    self._submit(outcome, name, data, origin, id=id)
        except (StorageUnavailable, Conflict):
            raise
        except Exception as error:  # noqa: BLE001 - one item that nobody foresaw stops no other
            return _Settled(item=item, odd=(odd_items.place_of(error), item | {self._row.id_field: number}))
        return outcome

    def _submit(
        self, outcome: _Settled, name: str, data: Mapping[str, Any], origin: str, *, id: str | None = None
    ) -> None:
        try:
            submit(self._bridge.storage, self._bridge.settings, name, data, origin=origin, id=id)
        except Invalid as error:
            outcome.odd = (str(error), {"eventType": name, "data": dict(data)})

    def _look_again(self, mark: Mapping[str, Any], ids: list[int], origin: str) -> int:
        """
        Ask the PBX for items that could still change when they were polled, and settle those that no longer can.

        The others are marked for later, at growing distances for a week.
        """
        since = parse_time(mark["since"]) if mark.get("since") else self._moment
        fresh = self._lookup(ids) if mark.get("since") else {}
        if fresh:
            intake, known = (
                Intake(self._bridge.storage, self._row.name),
                items.known(self._bridge.storage, self._row.name, fresh),
            )
            intake.overwrite([row_of(number, item, known.get(number)) for number, item in fresh.items()], self._moment)
        count = sum(outcome.events for outcome in self._settle_all([*fresh], origin))
        left = [number for number in ids if number not in fresh]
        if left and self._moment - since < _LONGEST_OPEN:
            delay = min(max((self._moment - since) / 2, grace(self._bridge)), _LONGEST_DELAY)
            mark_pending(
                self._bridge.storage, self._row.name, left, self._moment + delay,
                backfill=origin == "backfill", since=iso(since),
            )  # fmt: skip
        return count

    def _lookup(self, ids: list[int]) -> dict[int, Item]:
        found: dict[int, Item] = {}
        for number in ids:
            if self._lookups <= 0:
                break
            self._lookups -= 1
            try:
                item = call_from(self._bridge, number)
            except (PbxError, BudgetExhausted) as error:
                logger.info("call %d is asked for later: %s", number, type(error).__name__)
                continue
            if item and ended_at(item):
                found[number] = item
        return found


@dataclass(slots=True)
class _Settled:
    """What came of one item: events submitted, whether it can still change, and what was odd: a reason and a body."""

    item: Item = field(default_factory=dict)
    events: int = 0
    open: bool = False
    odd: tuple[str, Mapping[str, Any]] | None = None
