"""One run of a poll: what it works with, which items it takes, and what it notes of how it went."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.events.table import event_named
from shared.identifiers import identifier
from shared.items.row import began
from shared.once import once
from shared.pbx.operations import operation
from shared.polling import checkpoints, malformed
from shared.polling.pages import Deadline
from shared.storage.expiry import dropped_months
from shared.times import belongs_to_call, call_start, event_time, has_zone, months_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shared.bridge import Bridge
    from shared.items.row import Item
    from shared.pbx.fields import Shape
    from shared.pbx.resources import Resource
    from shared.polling.checkpoints import Checkpoint
    from shared.storage.account import Storage

# A range is read thoroughly so often, and after a run that failed.
THOROUGH = timedelta(hours=1)
_TIMES = ("callEnded", "callStarted", "created")
# An error that goes on is written down once in this time.
_SAME_ERROR = timedelta(seconds=30)
# Of a list in which nothing can be read, so many say what is wrong.
_MOST_KEPT = 20


@once
def refusals(storage: Storage) -> list[datetime]:
    """When this process was refused last, if ever: a resource that is let in after that says so at once."""
    return []


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """
    One run of a poll.

    A thorough one reads more than what is new, and takes nothing for granted.
    """

    bridge: Bridge
    resource: Resource
    checkpoint: Checkpoint
    moment: datetime
    is_thorough: bool = True
    lane: str = "poll"
    deadline: Deadline = field(default_factory=Deadline)

    @property
    def shape(self) -> Shape:
        """The fields of the resource's items."""
        return operation(self.resource.read_operation).item

    def kept(self, found: Iterable[tuple[int, Item]]) -> list[tuple[int, Item]]:
        """Return the items without those that are so old that they would be deleted again, or of a dropped month."""
        if self.resource.editable:
            return list(found)
        months, this_month = self.bridge.settings.retention_months, f"{self.moment:%Y-%m}"
        cut = months_before(self.moment, months) if months else None
        moments = [(pair, began(pair[1]) or self.moment) for pair in found]
        is_past = any(f"{moment:%Y-%m}" < this_month for _, moment in moments)
        dropped = dropped_months(self.bridge.storage) if is_past else set()
        return [
            pair
            for pair, moment in moments
            if (cut is None or moment >= cut) and f"{moment:%Y-%m}" not in dropped
        ]  # fmt: skip

    def is_since_begin(self, item: Mapping[str, Any]) -> bool:
        """True if an item came to be after the moment from which items are handed on."""
        begin, moment = self.checkpoint.begin, moment_of(item)
        return begin is None or (moment is not None and moment >= begin)

    def noted(self, **changes: Any) -> Reading:
        """Return the reading with these changes of the checkpoint, once they are stored."""
        storage = self.bridge.storage
        stored = checkpoints.change(storage, self.checkpoint, lambda now: replace(now, **changes))
        return replace(self, checkpoint=stored)

    def keep(self, **changes: Any) -> Reading:
        """Return the reading with those of these values that are new, once they are stored."""
        changes = self._new(changes)
        return self.noted(**changes) if changes else self

    def renewed(self) -> Reading:
        """Return the reading with the checkpoint as it is stored now."""
        stored = checkpoints.read(self.bridge.storage, self.resource.name)
        return replace(self, checkpoint=stored or self.checkpoint)

    def _new(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in changes.items() if getattr(self.checkpoint, name) != value}

    def advance(self, **changes: Any) -> Reading:
        """Record success, at once when there is something to record, else as a heartbeat."""
        seen = self.checkpoint
        changes = self._new(changes)
        refused, last = refusals(self.bridge.storage), seen.last_success
        # While days are left, what was wrong with them stays to be seen.
        is_settled = not changes.get("left", seen.left)
        idle = not changes and not (seen.last_error and is_settled)
        if idle and last and self.moment - last < checkpoints.HEARTBEAT and all(last >= one for one in refused):
            return self
        changes |= {"last_error": "", "last_error_at": None} if is_settled else {}
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
        """Keep the items that have no id as dead letters; return what to record. A part of a list only adds."""
        for item in found[:_MOST_KEPT]:
            reason = f"{self.resource.id_field}: it cannot be read as an identifier"
            malformed.keep(self.bridge.storage, self.resource.name, reason, item)
        return {"unreadable": len(found) if whole else max(len(found), self.checkpoint.unreadable)}


def is_thorough(seen: Checkpoint, moment: datetime) -> bool:
    """True if a run has to be thorough: once an hour, and after one that failed."""
    if seen.looked is None or moment - seen.looked >= THOROUGH:
        return True
    failed = seen.last_error_at
    return failed is not None and (seen.last_success is None or failed > seen.last_success)


def grace(bridge: Bridge) -> timedelta:
    """Return how late a webhook may be before its event counts as lost."""
    return timedelta(seconds=bridge.settings.reconcile_grace_seconds)


def moment_of(item: Mapping[str, Any]) -> datetime | None:
    """Return when the item came to be, as far as it says: a call when it ended."""
    return next((moment for name in _TIMES if (moment := event_time(item.get(name)))), None)


def connected_at(item: Mapping[str, Any]) -> datetime | None:
    """Return when the call of a history item was answered; None where nobody did, or its start rules the time out."""
    return _in_call(item, "callConnected")


def ended_at(item: Mapping[str, Any]) -> datetime | None:
    """Return when the call of a history item ended; None while it goes on."""
    return _in_call(item, "callEnded")


def _in_call(item: Mapping[str, Any], name: str) -> datetime | None:
    """Return a time of a call as its event has it: one of the starts that are known leaves room for it."""
    moment, number = event_time(item.get(name)), identifier(item.get("callID"))
    starts = [event_time(item.get("callStarted")), None if number is None else call_start(number)]
    return moment if moment and belongs_to_call(moment, starts, zoned=has_zone(item[name])) else None


def as_event(item: Mapping[str, Any], source: Resource, name: str) -> dict[str, Any]:
    """Return the item as the webhook has it: without what only lists have, and with what nobody knows."""
    known = event_named(name).model.model_fields
    listed = {field.name for field in operation(source.read_operation).item}
    return {field: value for field, value in item.items() if field in known or field not in listed}
