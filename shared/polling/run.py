"""Runs of a poll, and table `checkpoints`, with a row for the progress of each polled list."""

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
# A run may start or end this late without counting as missed.
_SLACK = timedelta(minutes=15)
_SOON = timedelta(minutes=20)
# NCRONTAB allows full names of days and months; croniter reads three letters.
_LONG_NAMES = re.compile(r"([A-Za-z]{3})[A-Za-z]+")
# Seconds for which a run asks the PBX for pages.
LONGEST = 60.0
# A forbidden resource costs one call per pause.
PAUSE = timedelta(minutes=5)
# Time between thorough runs; a failed run is followed by one at once.
THOROUGH = timedelta(hours=1)
# The page size that is requested; the PBX's maximum is not documented, and it may answer with fewer items.
_LIMIT = 1000
# A PBX that ignores offsets repeats its only page; below this size the repeat ends the list.
_FULL = 10
_MALFORMED = "polled"
# Dead letters of a list without any readable id.
_MOST_KEPT = 20
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The progress of a resource's poll."""

    resource: str
    # Older items make no events; None includes all.
    begin: datetime | None = None
    # The first reading of the newest range: items that are new to later ones are news.
    started: datetime | None = None
    # The last thorough run.
    looked: datetime | None = None
    # The days that are still to be read.
    left: str = ""
    # History before this time is still to be read, by month or by day.
    history: datetime | None = None
    by_day: bool = False
    # A page of up to this size is the last one of its list.
    page: int = 0
    # When the next events become due whose webhooks may still arrive.
    waiting: datetime | None = None
    # The number of stored items, and of listed items without an id.
    items: int = 0
    unreadable: int = 0
    # Seconds from the newest item's own time to its storing.
    lag: float | None = None
    # Data of a single poll, kept for its next run.
    state: str = ""
    last_success: datetime | None = None
    last_error: str = ""
    # True after a run without any success.
    failed: bool = False
    # When the PBX began to answer 403, and when it is asked again.
    forbidden_since: datetime | None = None
    paused_until: datetime | None = None

    def is_paused(self, moment: datetime) -> bool:
        """Return True if the resource is not polled at this moment."""
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
    """Return the checkpoints of all polls, by name."""
    entities = storage.table(TABLE).query_entities(f"PartitionKey eq '{_PARTITION}'")
    return [_checkpoint(row) for row in entities]


def save_checkpoint(storage: Storage, checkpoint: Checkpoint, **columns: Any) -> Checkpoint:
    """Store these columns of a checkpoint, and return it with them; the row's other columns stay unchanged."""
    # A merge would ignore None.
    row = {name: "" if value is None else value for name, value in columns.items()}
    rows.merge(storage.table(TABLE), {"PartitionKey": _PARTITION, "RowKey": checkpoint.resource, **row})
    return replace(checkpoint, **columns)


def _checkpoint(row: Mapping[str, Any]) -> Checkpoint:
    columns = {part.name: row[part.name] for part in fields(Checkpoint) if row.get(part.name, "") != ""}
    return Checkpoint(resource=row["RowKey"], **columns)


def read_steps(storage: Storage) -> dict[str, datetime]:
    """Return the times at which LookAfter last completed its steps, by name."""
    entities = storage.table(TABLE).query_entities(f"PartitionKey eq '{_STEP}'")
    return {row["RowKey"]: row["at"] for row in entities}


def save_step(storage: Storage, name: str, moment: datetime) -> None:
    """Store the time at which LookAfter completed a step."""
    rows.put(storage.table(TABLE), {"PartitionKey": _STEP, "RowKey": name, "at": moment})


def is_stale(resource: str, last_success: datetime, moment: datetime) -> bool:
    """
    Return True if the last two scheduled runs of a poll had no success; False for an unreadable schedule.

    A poll that runs on weekdays only is not stale on a Sunday.
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
    """Log signal `poll_stale` for a stale poll that is not paused."""
    last = checkpoint.last_success or checkpoint.begin or datetime.fromtimestamp(0, UTC)
    if is_stale(checkpoint.resource, last, moment) and not checkpoint.is_paused(moment):
        seconds = int((moment - last).total_seconds())
        logger.warning("signal poll_stale resource=%s seconds=%d", checkpoint.resource, seconds)


def forbidden_since(known: Sequence[Checkpoint]) -> datetime | None:
    """Return the time since which the PBX answers 403 to all polls; None if any poll succeeds."""
    since = max((poll.forbidden_since for poll in known if poll.forbidden_since), default=None)
    others = [poll.last_success for poll in known if not poll.forbidden_since and poll.last_success]
    # A list that succeeded shortly before is polled again soon.
    return None if since is None or any(last >= since - _SOON for last in others) else since


@dataclass(kw_only=True, slots=True)
class Run:
    """
    One run of a poll.

    A `thorough` run looks further back, and reads on after a small page. The run asks the PBX for pages `until` a time
    in monotonic seconds. `columns` are the checkpoint's values to be saved.
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
        """Return True if the run asks the PBX for no more pages."""
        return time.monotonic() > self.until

    @property
    def grace(self) -> timedelta:
        """Return the time that a webhook may be late before its event counts as lost."""
        return timedelta(seconds=self.bridge.settings.reconcile_grace_seconds)

    def keeps(self, item: Mapping[str, Any]) -> bool:
        """Return False for an item of history older than the retention, or of a dropped month."""
        if self.resource.editable:
            return True
        months, moment = self.bridge.settings.retention_months, began(item) or self.moment
        if months and moment < months_before(self.moment, months):
            return False
        month = f"{moment:%Y-%m}"
        return month >= f"{self.moment:%Y-%m}" or not people.is_dropped(self.bridge.storage, month)

    def save(self, **columns: Any) -> None:
        """Store the checkpoint with the run's columns and these ones."""
        self.columns |= columns
        self.checkpoint = save_checkpoint(self.bridge.storage, self.checkpoint, **self.columns)

    def succeed(self, **columns: Any) -> None:
        """Store a success; the last error stays visible while days are left to be read."""
        columns["started"] = self.checkpoint.started or self.moment
        if not self.columns.get("left", self.checkpoint.left):
            columns["last_error"] = ""
        if self.thorough:
            columns["looked"] = self.moment
        self.save(last_success=self.moment, failed=False, paused_until=None, forbidden_since=None, **columns)

    def fail(self, error: Exception, **columns: Any) -> None:
        """Store the run's error; the next run is thorough unless this one has succeeded in part."""
        failed = self.checkpoint.last_success != self.moment
        self.save(last_error=f"{type(error).__name__}: {error}", failed=failed, **columns)
        if self.checkpoint.last_success:
            alarm_if_stale(self.checkpoint, self.moment)

    def pause(self, error: PbxForbidden) -> None:
        """Store that the key may not read the resource, and pause its poll."""
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
        Yield the pages of a list, each item with its id, until a page has no new item.

        Items without an id become dead letters. A `quick` reading ends with a page no larger than the last page of an
        earlier run. Raises as Pbx.call does, PbxUnavailable when the run is late, and PbxNotUnderstood when a full page
        is repeated at another offset.
        """
        seen, unreadable, offset, last, largest = set[Any](), list[Item](), 0, 0, 0
        while True:
            items = self._ask(offset, filters)
            page = [(identify(item), item) for item in items]
            keys = {encode(item) if id is None else id for id, item in page}
            if keys <= seen:
                if offset and len(items) >= max(largest, _FULL):
                    remedy = "the same page comes again at another offset"
                    raise PbxNotUnderstood(self.resource.list_operation, remedy)
                # A page of this size ended the list, and a page smaller than the largest one was not full.
                self.columns["page"] = max(self.columns["page"], last, largest - 1)
                return
            seen |= keys
            offset, last, largest = offset + len(items), len(items), max(largest, len(items))
            if without_id := [item for id, item in page if id is None]:
                unreadable += without_id
                self._count_unreadable(unreadable)
            handed_over = time.monotonic()
            yield [(id, item) for id, item in page if id is not None]
            # The caller's own time does not count.
            self.until += time.monotonic() - handed_over
            if quick and last <= self.checkpoint.page:
                return

    def _ask(self, offset: int, filters: Mapping[str, Any]) -> list[Item]:
        name = self.resource.list_operation
        options = {"lane": self.lane, "until": self.until, "limit": _LIMIT, "offset": offset or None, **filters}
        while True:
            if self.is_late:
                raise PbxUnavailable(name, "the list is too long for one run; the next run goes on")
            try:
                return self.bridge.pbx.call(name, **options)  # type: ignore[no-any-return]
            except BudgetExhausted as error:
                # Starting over each time would never reach the end of a long list.
                if not offset or time.monotonic() + error.retry_after > self.until:
                    raise
                threading.Event().wait(error.retry_after)

    def _count_unreadable(self, items: Sequence[Item]) -> None:
        """Count items without an id, and store some of them as dead letters."""
        for item in items[:_MOST_KEPT]:
            self._dead_letter(f"{self.resource.id_field}: it cannot be read as an identifier", item)
        self.columns["unreadable"] = max(self.columns["unreadable"], len(items))

    def for_each(self, work: Callable[[Any, Item], int], pairs: Iterable[tuple[Any, Item]]) -> int:
        """
        Call `work` for each pair, several at once, and return the sum of its results.

        An item that fails becomes a dead letter and does not stop the others. Raises StorageUnavailable and Conflict.
        """

        def attempt(pair: tuple[Any, Item]) -> int | str:
            try:
                return work(*pair)
            except (StorageUnavailable, Conflict):
                raise
            except Invalid as error:
                return str(error)
            except Exception as error:  # noqa: BLE001 - an unforeseen item does not stop the others
                # The error's text may contain personal data.
                return f"{type(error).__name__} at {line_of(error)}"

        pairs = list(pairs)
        with ThreadPoolExecutor(_AT_ONCE if len(pairs) > _AT_ONCE else 1) as pool:
            results = list(pool.map(attempt, pairs))
        # Not in the pool: the host drops the logs of threads that it did not start.
        for result, (_, item) in zip(results, pairs, strict=True):
            if isinstance(result, str):
                self._dead_letter(result, item)
        return sum(result for result in results if isinstance(result, int))

    def _dead_letter(self, reason: str, item: Mapping[str, Any]) -> None:
        """Store an item as a dead letter, once for the same content."""
        body, storage = encode(dict(item)), self.bridge.storage
        key = f"{self.resource.name}-{hashlib.sha256(body).hexdigest()[:32]}"
        if not dead_letters(storage, kind=_MALFORMED, id=key, limit=1):
            dead_letter(storage, kind=_MALFORMED, id=key, reason=reason, body=body)


def follow(bridge: Bridge, resource: Resource, read: Callable[[Run], None], *, at: datetime | None = None) -> None:
    """
    Run `read` from a resource's checkpoint, and store how the run ended.

    A resource that the key may not read is polled every five minutes only. A first reading without budget goes on with
    the next run. Raises StorageUnavailable, and any other PbxError or BudgetExhausted, which the checkpoint then shows.
    The next run goes on where this one ended.
    """
    moment, start = at or now(), bridge.settings.poll_start
    checkpoint = checkpoint_of(bridge.storage, resource.name)
    if checkpoint is None:
        begin = None if start == "all" else moment if start == "now" else parse_time(start)
        logger.info("first reading of %s, from %s on", resource.name, begin or "the beginning")
        checkpoint = save_checkpoint(bridge.storage, Checkpoint(resource=resource.name), begin=begin)
    if checkpoint.is_paused(moment):
        return
    run = Run(bridge=bridge, resource=resource, checkpoint=checkpoint, moment=moment)
    run.thorough = checkpoint.looked is None or moment - checkpoint.looked >= THOROUGH or checkpoint.failed
    if not run.thorough:
        run.columns |= {"page": checkpoint.page, "unreadable": checkpoint.unreadable}
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
