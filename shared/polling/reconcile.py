"""Webhooks that never came, restored from what was polled."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared import health
from shared.calls.store import calls
from shared.errors import BudgetExhausted, Conflict, Invalid, PbxError, StorageUnavailable
from shared.events import store as events
from shared.events.receive import submit
from shared.events.table import event_id, event_named
from shared.identifiers import identifier
from shared.items import index
from shared.items import reader as items
from shared.items.head import TABLE
from shared.items.intake import Intake, row_of
from shared.items.marks import PENDING, mark_pending
from shared.pbx.resources import resource
from shared.polling import odd_items
from shared.polling.reading import as_event, call_from, ended_at, grace, time_in
from shared.storage import rows
from shared.storage.account import reaching_storage
from shared.times import MICROSECONDS_PER_SECOND, iso, now, parse_time
from shared.webhooks.table import ended_since, wanted_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.calls.parts import Part
    from shared.items.reader import Item
    from shared.pbx.resources import Resource

    # Events that are missing, each with its data, and whether the item can still change.
    Found = tuple[list[tuple[str, dict[str, Any]]], bool]
    Missing = Callable[[Bridge, int, Item], Found]

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
    had: a late one changes nothing. A call that goes on is looked at again until it has ended. Returns how many events
    were submitted. Raises StorageUnavailable; the next run goes on.
    """
    moment = at or now()
    with reaching_storage():
        return sum(_reconcile(bridge, resource(name), missing, moment) for name, missing in _MISSING.items())


def _reconcile(bridge: Bridge, row: Resource, missing: Missing, moment: datetime) -> int:
    wanted = {event.name for event in wanted_events(bridge.settings)}
    run = _Run(bridge, row, missing, wanted, moment)
    restored = 0
    for mark in _due(bridge, row, moment):
        origin = "backfill" if mark.get("backfill") else "reconciled"
        count = run.settle(mark, origin)
        restored += count if origin == "reconciled" else 0
        rows.delete(bridge.storage.table(TABLE), row.name, mark["RowKey"])
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
        with ThreadPoolExecutor(_WORKERS if len(ids) > _WORKERS else 1) as pool:
            settled = list(pool.map(partial(self._settle, origin=origin), ids))
        for outcome in settled:
            if outcome.odd:
                # Here: the host drops what threads log that it does not know.
                odd_items.keep(self._bridge.storage, self._row.name, *outcome.odd)
        listed = {number: outcome.item for number, outcome in zip(ids, settled, strict=True) if outcome.item}
        index.add(self._bridge.storage, self._row.name, listed, self._bridge.settings.default_region)
        again = [number for number, outcome in zip(ids, settled, strict=True) if outcome.open]
        count = sum(outcome.events for outcome in settled)
        if again:
            count += self._look_again(mark, again, origin)
        self.submitted += count
        return count

    def _settle(self, number: int, origin: str) -> _Settled:
        item: Item = {}
        try:
            with reaching_storage():
                item = items.stored(self._bridge.storage, self._row.name, number) or {}
                found, is_open = self._missing(self._bridge, number, item)
                outcome = _Settled(item=item, open=is_open)
                for name, data in found:
                    if name in self._wanted:
                        self._submit(outcome, name, data, origin)
        except (StorageUnavailable, Conflict):
            raise
        except Exception as error:  # noqa: BLE001 - one item that nobody foresaw stops no other
            return _Settled(item=item, odd=(odd_items.place_of(error), item | {self._row.id_field: number}))
        return outcome

    def _submit(self, outcome: _Settled, name: str, data: Mapping[str, Any], origin: str) -> None:
        outcome.events += 1
        try:
            submit(self._bridge.storage, self._bridge.settings, name, data, origin=origin)
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
        count = sum(self._settle(number, origin).events for number in fresh)
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


def _due(bridge: Bridge, row: Resource, moment: datetime) -> list[Mapping[str, Any]]:
    last = f"{PENDING}{int(moment.timestamp() * MICROSECONDS_PER_SECOND):020d}~"
    query = f"PartitionKey eq '{row.name}' and RowKey ge '{PENDING}' and RowKey lt '{last}'"
    return list(islice(bridge.storage.table(TABLE).query_entities(query), _MOST_MARKS))


def _missing_of_call(bridge: Bridge, number: int, item: Item) -> Found:
    """
    What the call's story lacks: its end, and what led to it; once that has come, only the losses are counted.

    A call that was answered ends once, and one that nobody answered for each one it rang. Ids alone would not do:
    history may name another employee than the webhook did. While the call goes on, its end is not announced.
    """
    row = resource("call_history")
    parts = calls(bridge.storage, bridge.settings.default_region).parts(number)
    names = {part["event"] for part in parts}
    answered = time_in(item, "callConnected") is not None or "CallConnected" in names
    led = [name for name in ("CallStarted", "CallConnected") if name == "CallStarted" or answered]
    rung, ended = _contacts(parts, "CallStarted"), _contacts(parts, "CallCompleted")
    end = as_event(item, row, "CallCompleted")
    if "CallCompleted" in names:
        _count_losses(bridge, item, parts, [name for name in led if name not in names])
        if ended and not answered:
            return [("CallCompleted", {**end, "contactID": one}) for one in sorted(rung - ended)], False
        return [], False
    found = [(name, as_event(item, row, name)) for name in led if name not in names]
    if ended_at(item) is None:
        return found, True
    own = identifier(item.get("contactID"))
    contacts = sorted(({own} if answered else rung | {own}) - {None}, key=str)
    # An employee that cannot be read stands in the event as it is.
    ends = [{**end, "contactID": contact} for contact in contacts] or [end]
    return found + [("CallCompleted", data) for data in ends], False


def _count_losses(bridge: Bridge, item: Item, parts: Iterable[Part], lost: Iterable[str]) -> None:
    """Count webhooks that led to an end which came; a transfer shows as an end with another employee only."""
    for name in lost:
        health.missed(bridge.storage, name)
    connected, moved = _contacts(parts, "CallConnected"), {part["event"] for part in parts} & {"CallTransfered"}
    own = identifier(item.get("contactID"))
    if connected and own is not None and own not in connected and not moved:
        health.missed(bridge.storage, "CallTransfered")


def _contacts(parts: Iterable[Part], event: str) -> set[Any]:
    found = (identifier(part["contactID"]) for part in parts if part["event"] == event and "contactID" in part)
    return {contact for contact in found if contact is not None}


def _missing_event(bridge: Bridge, number: int, item: Item, *, name: str, source: str) -> Found:
    """The event of an item that is announced once, unless it is there."""
    event, data = event_named(name), as_event(item, resource(source), name)
    identity = event_id(event, event.model.model_construct(None, **{event.key[0]: number}), "")
    there = rows.get(bridge.storage.table(events.TABLE), events.PARTITION, identity, select=["RowKey"])
    return ([] if there else [(name, data)]), False


_MISSING: Mapping[str, Missing] = {
    "call_history": _missing_of_call,
    "call_records": partial(_missing_event, name="CallRecorded", source="call_records"),
    "voicemails": partial(_missing_event, name="VoicemailCreated", source="voicemails"),
}
