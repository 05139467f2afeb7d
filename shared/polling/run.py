"""One run of a poll: what it works with, how it ends, and how it sets malformed items aside."""

from __future__ import annotations

import hashlib
import logging
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from shared import people
from shared.errors import BudgetExhausted, Conflict, Invalid, PbxError, PbxForbidden, StorageUnavailable
from shared.events.table import event_named
from shared.items.store import began
from shared.pbx.operations import operation
from shared.polling import checkpoints
from shared.polling.checkpoints import Checkpoint
from shared.storage.messages import dead_letter, dead_letters
from shared.times import event_time, months_before, now, parse_time
from shared.values import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from shared.bridge import Bridge
    from shared.items.store import Item
    from shared.pbx.fields import Shape
    from shared.pbx.resources import Resource

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds that a run asks the PBX for more.
LONGEST = 60.0
# A key that is allowed again is noticed after so long; meanwhile the resource costs one call each time.
PAUSE = timedelta(minutes=5)
# A range is read thoroughly so often, and after a run that failed.
THOROUGH = timedelta(hours=1)
_MALFORMED = "polled"
# Of a list in which nothing can be read, so many show what is wrong.
_MOST_KEPT = 20
_AT_ONCE = 8


@dataclass(kw_only=True, slots=True)
class Run:
    """
    One run of a poll.

    A `thorough` one looks further back, and takes no page for the last one. The PBX is asked `until` a time in
    monotonic seconds. `columns` are those of the checkpoint as this run leaves them.
    """

    bridge: Bridge
    resource: Resource
    checkpoint: Checkpoint
    moment: datetime
    thorough: bool = True
    lane: str = "poll"
    until: float = field(default_factory=lambda: time.monotonic() + LONGEST)
    columns: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        """Return the fields of the resource's items."""
        return operation(self.resource.read_operation).item

    @property
    def is_late(self) -> bool:
        """True if the PBX is asked for no more."""
        return time.monotonic() > self.until

    @property
    def grace(self) -> timedelta:
        """Return how late a webhook may be before its event counts as lost."""
        return timedelta(seconds=self.bridge.settings.reconcile_grace_seconds)

    def keeps(self, item: Mapping[str, Any]) -> bool:
        """Return False for what is so old that it would be deleted again, and for what is of a dropped month."""
        if self.resource.editable:
            return True
        months, moment = self.bridge.settings.retention_months, began(item) or self.moment
        if months and moment < months_before(self.moment, months):
            return False
        month = f"{moment:%Y-%m}"
        return month >= f"{self.moment:%Y-%m}" or not people.is_dropped(self.bridge.storage, month)

    def is_since_begin(self, item: Mapping[str, Any]) -> bool:
        """Return True if an item came to be after the moment from which items are handed on."""
        begin, moment = self.checkpoint.begin, moment_of(item)
        return begin is None or (moment is not None and moment >= begin)

    def note(self, **changes: Any) -> None:
        """Store the checkpoint with what this run has found, and these changes."""
        self.columns |= changes
        self.checkpoint = checkpoints.change(self.bridge.storage, self.checkpoint, **self.columns)

    def succeed(self, **changes: Any) -> None:
        """Store a success; while days are left, what was wrong with them stays to be seen."""
        if not self.columns.get("left", self.checkpoint.left):
            changes |= {"started": True, "last_error": "", "last_error_at": None}
        if self.thorough:
            changes["looked"] = self.moment
        self.note(last_success=self.moment, paused_until=None, forbidden_since=None, **changes)

    def fail(self, error: Exception, **changes: Any) -> None:
        """Store the error that a run ended with."""
        self.note(last_error=f"{type(error).__name__}: {error}", last_error_at=self.moment, **changes)
        if self.checkpoint.last_success:
            checkpoints.alarm_if_stale(self.checkpoint, self.moment)

    def note_unreadable(self, found: Sequence[Item]) -> None:
        """Count items without an id, and store some of them as dead letters."""
        for item in found[:_MOST_KEPT]:
            self._set_aside(f"{self.resource.id_field}: it cannot be read as an identifier", item)
        self.columns["unreadable"] = max(self.columns["unreadable"], len(found))

    def for_each(self, work: Callable[[T, Item], int], pairs: Iterable[tuple[T, Item]]) -> int:
        """
        Return the sum of what `work` returns for each pair; several are worked on at once.

        An item that nobody can use becomes a dead letter and stops no other. Raises StorageUnavailable and Conflict.
        """

        def attempt(pair: tuple[T, Item]) -> int | str:
            try:
                return work(*pair)
            except (StorageUnavailable, Conflict):
                raise
            except Invalid as error:
                return str(error)
            except Exception as error:  # noqa: BLE001 - one item that nobody foresaw stops no other
                # The text of the error may hold what was being read.
                place = traceback.extract_tb(error.__traceback__)[-1]
                return f"{type(error).__name__} at {PurePath(place.filename).name}:{place.lineno}"

        pairs, total = list(pairs), 0
        with ThreadPoolExecutor(_AT_ONCE if len(pairs) > _AT_ONCE else 1) as pool:
            results = list(pool.map(attempt, pairs))
        # Here: the host drops what threads log that it does not know.
        for result, (_, item) in zip(results, pairs, strict=True):
            if isinstance(result, str):
                self._set_aside(result, item)
            else:
                total += result
        return total

    def _set_aside(self, reason: str, item: Mapping[str, Any]) -> None:
        """Store an item as a dead letter, once: its key is made of its content."""
        body, storage = encode(dict(item)), self.bridge.storage
        key = f"{self.resource.name}-{hashlib.sha256(body).hexdigest()[:32]}"
        if not dead_letters(storage, kind=_MALFORMED, id=key, limit=1):
            dead_letter(storage, kind=_MALFORMED, id=key, reason=reason, body=body)


def follow(
    bridge: Bridge, resource: Resource, read: Callable[[Run], None], *, at: datetime | None = None, **first: Any
) -> None:
    """
    Have a resource read on from its checkpoint, which is made with these columns at `first`.

    One that the key may not read is asked for every five minutes only, and a first reading that the budget has no calls
    for goes on later. Raises any other PbxError or BudgetExhausted that ended the reading, which the checkpoint then
    shows, or StorageUnavailable; the next one goes on where this one ended.
    """
    moment, start = at or now(), bridge.settings.poll_start
    seen = checkpoints.read(bridge.storage, resource.name)
    if seen is None:
        begin = None if start == "all" else moment if start == "now" else parse_time(start)
        logger.info("%s is read for the first time, from what came since %s on", resource.name, begin or "ever")
        seen = checkpoints.create(bridge.storage, Checkpoint(resource=resource.name, begin=begin, **first))
    if seen.is_paused(moment):
        return
    run = Run(bridge=bridge, resource=resource, checkpoint=seen, moment=moment)
    run.thorough = seen.looked is None or moment - seen.looked >= THOROUGH or seen.has_failed
    run.columns = {"waiting": None, "page": 0, "unreadable": 0}
    if not run.thorough:
        run.columns |= {"page": seen.page, "unreadable": seen.unreadable}
    try:
        read(run)
    except PbxForbidden as error:
        _pause(run, error)
    except BudgetExhausted as error:
        logger.warning("signal budget_exhausted resource=%s", resource.name)
        run.fail(error)
        if run.checkpoint.started:
            raise
    except PbxError as error:
        run.fail(error)
        raise


def _pause(run: Run, error: PbxForbidden) -> None:
    since = run.checkpoint.forbidden_since or run.moment
    logger.warning("%s is paused for %d minutes: %s", run.resource.name, PAUSE.seconds // 60, error)
    run.fail(error, paused_until=run.moment + PAUSE, forbidden_since=since)
    if since_all := checkpoints.forbidden_since(checkpoints.read_all(run.bridge.storage)):
        seconds = int((run.moment - since_all).total_seconds())
        logger.warning("signal pbx_forbidden seconds=%d: %s", seconds, checkpoints.FORBIDDEN)


def moment_of(item: Mapping[str, Any]) -> datetime | None:
    """Return when the item came to be, as far as it says: a call when it ended."""
    return event_time(item.get("callEnded")) or event_time(item.get("callStarted")) or event_time(item.get("created"))


def as_event(item: Mapping[str, Any], source: Resource, name: str) -> dict[str, Any]:
    """Return the item as the webhook has it: without what only lists have, and with what nobody knows."""
    known = {field.name for field in event_named(name).model.fields}
    listed = {field.name for field in operation(source.read_operation).item}
    return {field: value for field, value in item.items() if field in known or field not in listed}
