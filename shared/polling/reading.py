"""One reading of a resource: what it works with, what of its items is handed on, and what is noted of how it went."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.events.table import event_named
from shared.identifiers import identifier
from shared.items import index
from shared.items.intake import row_of
from shared.once import once
from shared.pbx.operations import operation
from shared.polling import checkpoints, odd_items
from shared.storage.expiry import dropped_months
from shared.times import belongs_to_call, call_start, event_time, has_zone, months_before

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.bridge import Bridge
    from shared.items.intake import Intake, Row
    from shared.items.reader import Item, Known
    from shared.pbx.resources import Resource
    from shared.polling.checkpoints import Checkpoint
    from shared.storage.account import Storage

_TIMES = ("callEnded", "callStarted", "created")
# An error that goes on is written down once in this time.
_SAME_ERROR = timedelta(seconds=30)
# Of a list in which nothing can be read, so many say what is wrong.
_MOST_KEPT = 20


@once
def refusals(storage: Storage) -> list[datetime]:
    """When this process was refused last, if ever: who is let in after that says so at once."""
    return []


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one poll works with."""

    bridge: Bridge
    resource: Resource
    checkpoint: Checkpoint
    moment: datetime

    @property
    def lane(self) -> str:
        """The first reading of a whole list leaves more of the budget to others."""
        return "poll" if self.checkpoint.started else "backfill"

    def wanted(self, number: int, item: Mapping[str, Any]) -> bool:
        """
        Whether an item is handed on: after the first reading each one, during it those from `begin` on.

        Of a list that cannot be read to its end nobody knows what stands there: what has no date is new where its id
        is above all that were listed before.
        """
        checkpoint = self.checkpoint
        if (checkpoint.started and not checkpoint.partial) or checkpoint.begin is None:
            return True
        moment = moment_of(item)
        if moment is None:
            return checkpoint.partial and number > checkpoint.cursor
        return moment >= checkpoint.begin

    def kept(self, found: Mapping[int, Item]) -> Mapping[int, Item]:
        """Without the items that are so old that they would be deleted again, or of a month that was dropped."""
        months = self.bridge.settings.retention_months
        cut = months_before(self.moment, months) if months else None
        moments = {number: moment_of(item) or self.moment for number, item in found.items()}
        this_month = self.moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        past = min(moments.values(), default=self.moment) < this_month
        dropped = dropped_months(self.bridge.storage) if past else set()
        return {
            number: item
            for number, item in found.items()
            if (cut is None or moments[number] >= cut) and f"{moments[number]:%Y-%m}" not in dropped
        }

    def changed(self, found: Mapping[int, Item], known: Mapping[int, Known]) -> list[Row]:
        """Rows for the items of which nothing is known, or something else; a baseline of those not handed on."""
        rows = [
            row_of(number, item, known.get(number), baseline=number not in known and not self.wanted(number, item))
            for number, item in found.items()
        ]
        return [row for row in rows if row.before is None or row.before.removed or row.before.hash != row.hash]

    def store(self, intake: Intake, rows: Sequence[Row], found: Mapping[int, Item], *, backfill: bool = False) -> int:
        """Store rows of items that were found, the new ones to be reconciled after the grace; how many those were."""
        bridge = self.bridge
        wanted = [row for row in rows if not row.before and not row.baseline]
        added = intake.add(wanted, self.moment, due=self.moment + grace(bridge), backfill=backfill)
        baseline, changed = [row for row in rows if row.baseline], [row for row in rows if row.before]
        # No event is made of these, which others are found by.
        others = {row.id: found[row.id] for row in (*baseline, *changed)}
        index.add(bridge.storage, self.resource.name, others, bridge.settings.default_region)
        intake.add(baseline, self.moment)
        intake.overwrite(changed, self.moment)
        return added

    def noted(self, **changes: Any) -> Reading:
        """With these changes of the checkpoint, once they are stored."""
        storage = self.bridge.storage
        stored = checkpoints.change(storage, self.checkpoint, lambda now: replace(now, **changes))
        return replace(self, checkpoint=stored)

    def advance(self, *, all_read: bool = True, **changes: Any) -> Reading:
        """
        Record success, at once when there is something to record, else as a heartbeat; the reading as it goes on.

        While not `all_read`, what is wrong with the rest stays to be seen.
        """
        refused, last = refusals(self.bridge.storage), self.checkpoint.last_success
        idle = not changes and not (self.checkpoint.last_error and all_read)
        if idle and last and self.moment - last < checkpoints.HEARTBEAT and all(last >= one for one in refused):
            return self
        if all_read:
            changes = {"last_error": "", "last_error_at": None, **changes}
        return self.noted(last_success=self.moment, paused_until=None, forbidden_since=None, **changes)

    def note_error(self, error: Exception, **changes: Any) -> None:
        """Record what a poll ended with; the same again is written down rarely."""
        text, checkpoint, since = f"{type(error).__name__}: {error}", self.checkpoint, self.checkpoint.last_error_at
        same = not changes and checkpoint.last_error == text
        if not (same and since and self.moment - since < _SAME_ERROR):
            checkpoint = self.noted(last_error=text, last_error_at=self.moment, **changes).checkpoint
        if checkpoint.last_success:
            checkpoints.alarm_if_stale(checkpoint, self.moment)

    def note_unreadable(self, found: Sequence[Item], *, whole: bool = True) -> dict[str, Any]:
        """
        Keep the items of a list that have no id; what to record of how many there are.

        What is no `whole` list says nothing of what was read before, so that the number only grows until a sweep.
        """
        for item in found[:_MOST_KEPT]:
            reason = f"{self.resource.id_field}: it cannot be read as an identifier"
            odd_items.keep(self.bridge.storage, self.resource.name, reason, item)
        before = self.checkpoint.unreadable
        return {"unreadable": len(found)} if len(found) > before or (whole and len(found) < before) else {}

    def caught_up(self) -> Reading:
        """With the checkpoint of now: what somebody else's first reading, complete meanwhile, did not list is new."""
        stored = checkpoints.read(self.bridge.storage, self.resource.name)
        return replace(self, checkpoint=stored or self.checkpoint)


def grace(bridge: Bridge) -> timedelta:
    """How late a webhook may be: only after this time is one that did not come taken for lost."""
    return timedelta(seconds=bridge.settings.reconcile_grace_seconds)


def moment_of(item: Mapping[str, Any]) -> datetime | None:
    """When the item came to be, as far as it says."""
    return next((moment for name in _TIMES if (moment := event_time(item.get(name)))), None)


def connected_at(item: Mapping[str, Any]) -> datetime | None:
    """When the call of a history item was answered; None where nobody did, or its start leaves no room for the time."""
    return _in_call(item, "callConnected")


def ended_at(item: Mapping[str, Any]) -> datetime | None:
    """When the call of a history item ended; None while it goes on, as its item can still change then."""
    return _in_call(item, "callEnded")


def _in_call(item: Mapping[str, Any], name: str) -> datetime | None:
    """A time of a call, as its event has it: one of the starts that are known leaves room for it."""
    moment, number = event_time(item.get(name)), identifier(item.get("callID"))
    starts = [event_time(item.get("callStarted")), None if number is None else call_start(number)]
    return moment if moment and belongs_to_call(moment, starts, zoned=has_zone(item[name])) else None


def as_event(item: Mapping[str, Any], source: Resource, name: str) -> dict[str, Any]:
    """The item as the webhook has it: without what only lists have, and with what nobody knows."""
    known = event_named(name).model.model_fields
    listed = {field.name for field in operation(source.read_operation).item}
    return {field: value for field, value in item.items() if field in known or field not in listed}
