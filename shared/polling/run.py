"""Runs of a poll, and table `checkpoints`: one row for each list that is polled, with its progress."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared import people
from shared.bridge import Bridge
from shared.errors import (
    BudgetExhausted,
    Conflict,
    Invalid,
    PbxError,
    PbxForbidden,
    PbxNotUnderstood,
    PbxUnavailable,
    StorageUnavailable,
)
from shared.items.store import Item, began
from shared.pbx.resources import Resource
from shared.settings import polls, schedule
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.messages import dead_letter, dead_letters, line_of
from shared.times import months_before, now, parse_time
from shared.values import encode

logger = logging.getLogger(__name__)

TABLE = "checkpoints"
FORBIDDEN = (
    "The PBX answers 403 to everything. In its panel, under Integration, check the key's list of IP addresses (this "
    "app's outbound addresses may have changed), the key itself, and the API methods that it may use; polling goes on "
    "by itself within minutes once it is allowed."
)
_PARTITION, _STEP = "checkpoint", "step"
# So late timers and runs may be together.
_SLACK = timedelta(minutes=15)
_SOON = timedelta(minutes=20)
# Names of days and months that are longer than croniter knows.
_LONG_NAMES = re.compile(r"([A-Za-z]{3})[A-Za-z]+")
# Seconds that a run asks the PBX for more.
LONGEST = 60.0
# A key that is allowed again is noticed after so long; meanwhile the resource costs one call each time.
PAUSE = timedelta(minutes=5)
# A range is read thoroughly so often, and after a run that failed.
THOROUGH = timedelta(hours=1)
# Asked for at once; the largest page of the PBX is not documented, and a smaller one is taken as it comes.
_LIMIT = 1000
# A page of fewer items is all that a PBX has that knows no offsets.
_FULL = 10
_MALFORMED = "polled"
# Of a list in which nothing can be read, so many show what is wrong.
_MOST_KEPT = 20
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """
    The progress of a resource.

    Items that came to be before `begin` are not handed on; None: all are. `started` is True once a first reading is
    complete; `looked` is when the last thorough one was. `left` are the days that are still to be read; `history` is
    the time before which nothing was read yet, a month at a time or, `by_day`, a day. A page of up to `page` items is
    the last of its list. `waiting` is when events are due that a webhook may still bring. `items` is how many are
    stored, `unreadable` how many of a list had no id. `lag` is in seconds, from the newest item's own time to its
    storing. `state` is a poll's own memory. `failed` is True after a run without any success. `forbidden_since` is when
    the PBX began to answer 403; before `paused_until` it is not asked.
    """

    resource: str
    begin: datetime | None = None
    started: bool = False
    looked: datetime | None = None
    left: str = ""
    history: datetime | None = None
    by_day: bool = False
    page: int = 0
    waiting: datetime | None = None
    items: int = 0
    unreadable: int = 0
    lag: float | None = None
    state: str = ""
    last_success: datetime | None = None
    last_error: str = ""
    failed: bool = False
    forbidden_since: datetime | None = None
    paused_until: datetime | None = None

    def is_paused(self, moment: datetime) -> bool:
        """True if the PBX is not asked for the resource at a moment."""
        return self.paused_until is not None and moment < self.paused_until

    @property
    def days_left(self) -> set[str]:
        """Return the days (`yyyy-mm-dd`, UTC) that are still to be read."""
        return set(self.left.split())


def checkpoint_of(storage: Storage, resource: str) -> Checkpoint | None:
    """Return the resource's checkpoint, or None before its first poll."""
    row = rows.get(storage.table(TABLE), _PARTITION, resource)
    return None if row is None else _checkpoint(row)


def checkpoints(storage: Storage) -> list[Checkpoint]:
    """Return the checkpoints of everything that was polled, by name."""
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{_PARTITION}'")
    return [_checkpoint(row) for row in found]


def save_checkpoint(storage: Storage, seen: Checkpoint, **columns: Any) -> Checkpoint:
    """Store columns of a checkpoint, and return it with them; the others stay as other runs have left them."""
    # A column that is None would stay, too.
    row = {name: "" if value is None else value for name, value in columns.items()}
    rows.merge(storage.table(TABLE), {"PartitionKey": _PARTITION, "RowKey": seen.resource, **row})
    return replace(seen, **columns)


def _checkpoint(row: Mapping[str, Any]) -> Checkpoint:
    columns = {part.name: row[part.name] for part in fields(Checkpoint) if row.get(part.name, "") != ""}
    return Checkpoint(resource=row["RowKey"], **columns)


def read_steps(storage: Storage) -> dict[str, datetime]:
    """Return when LookAfter's steps were done last, by name."""
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{_STEP}'")
    return {row["RowKey"]: row["at"] for row in found}


def save_step(storage: Storage, name: str, moment: datetime) -> None:
    """Store when a step was done."""
    rows.put(storage.table(TABLE), {"PartitionKey": _STEP, "RowKey": name, "at": moment})


def is_stale(resource: str, last_success: datetime, moment: datetime) -> bool:
    """
    Return True if two runs in a row of a poll have had no success; False for an unreadable schedule.

    Counted by its own schedule, nights and weekends too: what is due on weekdays alone is not late on a Sunday.
    """
    from croniter import croniter

    try:
        text = _LONG_NAMES.sub(r"\1", schedule(polls(resource)))
        due = croniter(text, moment - _SLACK, second_at_beginning=True, day_or=False)
        _, last_but_one = due.get_prev(datetime), due.get_prev(datetime)
    except (ValueError, KeyError):
        return False
    return bool(last_but_one > last_success)


def alarm_if_stale(checkpoint: Checkpoint, moment: datetime) -> None:
    """Log the signal of a poll that has not succeeded for long."""
    last = checkpoint.last_success or checkpoint.begin or datetime.fromtimestamp(0, UTC)
    if is_stale(checkpoint.resource, last, moment) and not checkpoint.is_paused(moment):
        seconds = int((moment - last).total_seconds())
        logger.warning("signal poll_stale resource=%s seconds=%d", checkpoint.resource, seconds)


def forbidden_since(found: Sequence[Checkpoint]) -> datetime | None:
    """Return since when the PBX answers 403 to everything; None where it lets something through."""
    since = max((one.forbidden_since for one in found if one.forbidden_since), default=None)
    others = [one.last_success for one in found if not one.forbidden_since and one.last_success]
    # A list that succeeded shortly before is asked for again soon.
    return None if since is None or any(last >= since - _SOON for last in others) else since


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
    columns: dict[str, Any] = field(default_factory=lambda: {"waiting": None, "page": 0, "unreadable": 0})

    @property
    def is_late(self) -> bool:
        """True if the PBX is asked for no more."""
        return time.monotonic() > self.until

    @property
    def grace(self) -> timedelta:
        """Return how late a webhook may be before its event counts as lost."""
        return timedelta(seconds=self.bridge.settings.reconcile_grace_seconds)

    def keeps(self, item: Mapping[str, Any]) -> bool:
        """Return False for an item so old that it would be deleted again, and for one of a dropped month."""
        if self.resource.editable:
            return True
        months, moment = self.bridge.settings.retention_months, began(item) or self.moment
        if months and moment < months_before(self.moment, months):
            return False
        month = f"{moment:%Y-%m}"
        return month >= f"{self.moment:%Y-%m}" or not people.is_dropped(self.bridge.storage, month)

    def save(self, **columns: Any) -> None:
        """Store the checkpoint with what this run has found, and these columns."""
        self.columns |= columns
        self.checkpoint = save_checkpoint(self.bridge.storage, self.checkpoint, **self.columns)

    def succeed(self, **columns: Any) -> None:
        """Store a success; while days are left, what was wrong with them stays to be seen."""
        if not self.columns.get("left", self.checkpoint.left):
            columns |= {"started": True, "last_error": ""}
        if self.thorough:
            columns["looked"] = self.moment
        self.save(last_success=self.moment, failed=False, paused_until=None, forbidden_since=None, **columns)

    def fail(self, error: Exception, **columns: Any) -> None:
        """Store the error that a run ended with; where only a day failed, the next run need not be thorough."""
        failed = self.checkpoint.last_success != self.moment
        self.save(last_error=f"{type(error).__name__}: {error}", failed=failed, **columns)
        if self.checkpoint.last_success:
            alarm_if_stale(self.checkpoint, self.moment)

    def pause(self, error: PbxForbidden) -> None:
        """Store that the key may not read the resource, which is not asked for meanwhile."""
        logger.warning("%s is paused for %d minutes: %s", self.resource.name, PAUSE.seconds // 60, error)
        since = self.checkpoint.forbidden_since or self.moment
        self.fail(error, paused_until=self.moment + PAUSE, forbidden_since=since)
        if since_all := forbidden_since(checkpoints(self.bridge.storage)):
            seconds = int((self.moment - since_all).total_seconds())
            logger.warning("signal pbx_forbidden seconds=%d: %s", seconds, FORBIDDEN)

    def pages(
        self, identify: Callable[[Item], Any], *, quick: bool = False, **filters: Any
    ) -> Iterator[list[tuple[Any, Item]]]:
        """
        Yield the pages of a list, each item with its id, until one has nothing new.

        Items without an id become dead letters. A `quick` reading ends with a page that is no larger than one which
        was the last. Raises what Pbx.call raises, PbxUnavailable where the run is late, and PbxNotUnderstood where a
        full page comes again at another offset.
        """
        seen, unreadable, offset, last, largest = set[Any](), list["Item"](), 0, 0, 0
        while True:
            found = self._ask(offset, filters)
            page = [(identify(item), item) for item in found]
            keys = {encode(item) if id is None else id for id, item in page}
            if keys <= seen:
                if offset and len(found) >= max(largest, _FULL):
                    remedy = "the same page comes again at another offset"
                    raise PbxNotUnderstood(self.resource.list_operation, remedy)
                # A page as large as the last one need not be full; those that others came after were.
                self.columns["page"] = max(self.columns["page"], last, largest - 1)
                return
            seen |= keys
            offset, last, largest = offset + len(found), len(found), max(largest, len(found))
            if odd := [item for id, item in page if id is None]:
                unreadable += odd
                self._count_unreadable(unreadable)
            asked = time.monotonic()
            yield [(id, item) for id, item in page if id is not None]
            # The time that our own storage takes does not count.
            self.until += time.monotonic() - asked
            if quick and last <= self.checkpoint.page:
                return

    def _ask(self, offset: int, filters: Mapping[str, Any]) -> list[Item]:
        name = self.resource.list_operation
        options = {"lane": self.lane, "until": self.until, "limit": _LIMIT, "offset": offset or None, **filters}
        while True:
            if self.is_late:
                raise PbxUnavailable(name, "the list is longer than can be read in one run; it goes on with the next")
            try:
                return self.bridge.pbx.call(name, **options)  # type: ignore[no-any-return]
            except BudgetExhausted as error:
                # To begin again would never get to the end of a long list.
                if not offset or time.monotonic() + error.retry_after > self.until:
                    raise
                threading.Event().wait(error.retry_after)

    def _count_unreadable(self, found: Sequence[Item]) -> None:
        """Count items without an id, and store some of them as dead letters."""
        for item in found[:_MOST_KEPT]:
            self._set_aside(f"{self.resource.id_field}: it cannot be read as an identifier", item)
        self.columns["unreadable"] = max(self.columns["unreadable"], len(found))

    def for_each(self, work: Callable[[Any, Item], int], pairs: Iterable[tuple[Any, Item]]) -> int:
        """
        Return the sum of what `work` returns for each pair; several are worked on at once.

        An item that nobody can use becomes a dead letter and stops no other. Raises StorageUnavailable and Conflict.
        """

        def attempt(pair: tuple[Any, Item]) -> int | str:
            try:
                return work(*pair)
            except (StorageUnavailable, Conflict):
                raise
            except Invalid as error:
                return str(error)
            except Exception as error:  # noqa: BLE001 - one item that nobody foresaw stops no other
                # The text of the error may hold what was being read.
                return f"{type(error).__name__} at {line_of(error)}"

        pairs = list(pairs)
        with ThreadPoolExecutor(_AT_ONCE if len(pairs) > _AT_ONCE else 1) as pool:
            results = list(pool.map(attempt, pairs))
        # Here: the host drops what threads log that it does not know.
        for result, (_, item) in zip(results, pairs, strict=True):
            if isinstance(result, str):
                self._set_aside(result, item)
        return sum(result for result in results if isinstance(result, int))

    def _set_aside(self, reason: str, item: Mapping[str, Any]) -> None:
        """Store an item as a dead letter, once: its key is made of its content."""
        body, storage = encode(dict(item)), self.bridge.storage
        key = f"{self.resource.name}-{hashlib.sha256(body).hexdigest()[:32]}"
        if not dead_letters(storage, kind=_MALFORMED, id=key, limit=1):
            dead_letter(storage, kind=_MALFORMED, id=key, reason=reason, body=body)


def follow(bridge: Bridge, resource: Resource, read: Callable[[Run], None], *, at: datetime | None = None) -> None:
    """
    Have a resource read on from its checkpoint.

    One that the key may not read is asked for every five minutes only, and a first reading that the budget has no calls
    for goes on later. Raises any other PbxError or BudgetExhausted that ended the reading, which the checkpoint then
    shows, or StorageUnavailable; the next one goes on where this one ended.
    """
    moment, start = at or now(), bridge.settings.poll_start
    seen = checkpoint_of(bridge.storage, resource.name)
    if seen is None:
        begin = None if start == "all" else moment if start == "now" else parse_time(start)
        logger.info("%s is read for the first time, from what came since %s on", resource.name, begin or "ever")
        seen = save_checkpoint(bridge.storage, Checkpoint(resource=resource.name), begin=begin)
    if seen.is_paused(moment):
        return
    run = Run(bridge=bridge, resource=resource, checkpoint=seen, moment=moment)
    run.thorough = seen.looked is None or moment - seen.looked >= THOROUGH or seen.failed
    if not run.thorough:
        run.columns |= {"page": seen.page, "unreadable": seen.unreadable}
    try:
        read(run)
    except PbxForbidden as error:
        run.pause(error)
    except (PbxError, BudgetExhausted) as error:
        run.fail(error)
        if isinstance(error, BudgetExhausted):
            logger.warning("signal budget_exhausted resource=%s", resource.name)
            if not run.checkpoint.started:
                return
        raise
