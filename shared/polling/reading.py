"""One run of a poll: what it works with, which items it takes, and what it records of how it went."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, PbxError, PbxForbidden
from shared.events.table import event_named
from shared.identifiers import identifier
from shared.items.store import began
from shared.once import once
from shared.pbx.operations import operation
from shared.polling import checkpoints, malformed
from shared.polling.checkpoints import Checkpoint
from shared.polling.pages import Deadline
from shared.storage.account import reaching_storage
from shared.storage.expiry import dropped_months
from shared.times import belongs_to_call, call_start, event_time, months_before, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from shared.bridge import Bridge
    from shared.items.store import Item
    from shared.pbx.fields import Shape
    from shared.pbx.resources import Resource
    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

# A key that is allowed again is noticed after so long; meanwhile the resource costs one call each time.
PAUSE = timedelta(minutes=5)
# A range is read thoroughly so often, and after a run that failed.
THOROUGH = timedelta(hours=1)
# An error that goes on is written down once in this time.
_SAME_ERROR = timedelta(seconds=30)
# Of a list in which nothing can be read, so many say what is wrong.
_MOST_KEPT = 20


@once
def refusals(storage: Storage) -> list[datetime]:
    """Return the last refusal of this process: a resource that is let in after it records success at once."""
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
        """Return the fields of the resource's items."""
        return operation(self.resource.read_operation).item

    def kept(self, found: Iterable[tuple[int, Item]]) -> list[tuple[int, Item]]:
        """Return the items without those that are so old that they would be deleted again, or of a dropped month."""
        if self.resource.editable:
            return list(found)
        storage, months, this_month = self.bridge.storage, self.bridge.settings.retention_months, f"{self.moment:%Y-%m}"
        cut, kept = months_before(self.moment, months) if months else None, []
        for id, item in found:
            moment = began(item) or self.moment
            month = f"{moment:%Y-%m}"
            if (cut is None or moment >= cut) and (month >= this_month or month not in dropped_months(storage)):
                kept.append((id, item))
        return kept

    def is_since_begin(self, item: Mapping[str, Any]) -> bool:
        """True if an item came to be after the moment from which items are handed on."""
        begin, moment = self.checkpoint.begin, moment_of(item)
        return begin is None or (moment is not None and moment >= begin)

    def noted(self, **changes: Any) -> Reading:
        """Return the reading with these changes of the checkpoint, once they are stored."""
        storage = self.bridge.storage
        return replace(self, checkpoint=checkpoints.change(storage, self.checkpoint, **changes))

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
        """Store items without an id as dead letters; return the checkpoint's changes. A part of a list only adds."""
        for item in found[:_MOST_KEPT]:
            reason = f"{self.resource.id_field}: it cannot be read as an identifier"
            malformed.keep(self.bridge.storage, self.resource.name, reason, item)
        return {"unreadable": len(found) if whole else max(len(found), self.checkpoint.unreadable)}


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
    """Pause the resource, and log the signal of a PBX that refuses everything."""
    since, storage = reading.checkpoint.forbidden_since or reading.moment, reading.bridge.storage
    refusals(storage)[:] = [reading.moment]
    logger.warning("%s is paused for %d minutes: %s", reading.resource.name, PAUSE.seconds // 60, error)
    reading.note_error(error, paused_until=reading.moment + PAUSE, forbidden_since=since)
    if since_all := checkpoints.forbidden_since(checkpoints.read_all(storage)):
        seconds = int((reading.moment - since_all).total_seconds())
        logger.warning("signal pbx_forbidden seconds=%d: %s", seconds, checkpoints.FORBIDDEN)


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
    return event_time(item.get("callEnded")) or event_time(item.get("callStarted")) or event_time(item.get("created"))


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
    return moment if moment and belongs_to_call(moment, starts) else None


def as_event(item: Mapping[str, Any], source: Resource, name: str) -> dict[str, Any]:
    """Return the item as the webhook has it: without what only lists have, and with what nobody knows."""
    known = {field.name for field in event_named(name).model.fields}
    listed = {field.name for field in operation(source.read_operation).item}
    return {field: value for field, value in item.items() if field in known or field not in listed}
