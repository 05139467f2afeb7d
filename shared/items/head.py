"""What table `resources` has beside items: the head of each resource, with the newest, and marks that list items."""

from __future__ import annotations

import json
import time
import zlib
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shared.identifiers import LARGEST_ID
from shared.once import once
from shared.storage import rows
from shared.times import MICROSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from shared.items.intake import Row
    from shared.storage.account import Storage

TABLE = "resources"
HEAD = "head"
# How keys of marks begin: of those in the order of arrival, and of what is still to be reconciled.
ARRIVAL, _PENDING = "a", "p"
# In column `kind`, which differs between items and the rows that keep their order and state.
ITEM = "item"
# How long a process may go on without looking what others have stored meanwhile.
STALE_SECONDS = 1.0
_NUMBERS = ("sequence", "count", "smallest", "largest")
_IN_HEAD = 200
_LONGEST_HEAD = 48 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """
    The row that every write to a resource's partition replaces, so that writes come one after the other.

    `newest` maps ids to the items' texts and is complete from `floor` upwards; `sequence` is the last arrival,
    `count` the items that are not gone, `smallest` and `largest` the ids ever stored.
    """

    etag: str | None = None
    sequence: int = 0
    count: int = 0
    smallest: int = LARGEST_ID
    largest: int = 0
    floor: int = 0
    newest: Mapping[int, str]


class Heads:
    """The heads of all resources in a storage account, as this process knows them."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        self._known: dict[str, tuple[float, Head]] = {}
        self._lock = Lock()

    def read(self, resource: str) -> Head:
        """The head as it is now; an empty one where nothing was stored yet."""
        began = self._clock()
        row = rows.get(self._storage.table(TABLE), resource, HEAD)
        head = Head(newest={})
        if row is not None:
            numbers = {name: rows.value_of(row[name]) for name in _NUMBERS}
            head = Head(etag=row.etag, newest=_unpack(row["newest"]), floor=int(row["floor"]), **numbers)
        self.written(resource, head, began)
        return head

    def recent(self, resource: str) -> Head:
        """The head as it was at most a second ago, with everything that this process has stored."""
        as_of, head = self._known.get(resource, (0.0, None))
        return head if head and self._clock() < as_of + STALE_SECONDS else self.read(resource)

    def written(self, resource: str, head: Head, as_of: float | None = None) -> None:
        """Note what this process has just made of a head, or found at a time; what is known later stays."""
        as_of = self._clock() if as_of is None else as_of
        with self._lock:
            if resource not in self._known or self._known[resource][0] <= as_of:
                self._known[resource] = as_of, head


# This process's view of the heads in a storage account.
heads = once(Heads)


def head_after(head: Head, written: Sequence[Row]) -> Head:
    """The head once these rows are written; its clock never goes back, also where the machine's does."""
    ids = [row.id for row in written]
    gone = sum(row.removed for row in written)
    newest, floor = head.newest, head.floor
    if any(row.id >= floor for row in written):
        newest, floor = _newest(head, written)
    return replace(
        head,
        sequence=max(time.time_ns() // 1000, head.sequence + 1),
        count=head.count + sum(row.arrives for row in written) - gone,
        smallest=min(head.smallest, *ids),
        largest=max(head.largest, *ids),
        floor=floor,
        newest=newest,
    )


def _newest(head: Head, written: Sequence[Row]) -> tuple[Mapping[int, str], int]:
    gone = {row.id for row in written if row.removed}
    merged = {**head.newest, **{row.id: row.text for row in written if row.id >= head.floor}}
    kept, floor = sorted(merged.keys() - gone, reverse=True), head.floor
    size = _IN_HEAD
    while len(kept) > size or len(_pack({number: merged[number] for number in kept})) > _LONGEST_HEAD:
        size = size if len(kept) > size else len(kept) // 2
        # What falls out was the smallest: the head says nothing of it and of anything below the ones that stay.
        floor = kept[size] + 1
        kept = kept[:size]
    return {number: merged[number] for number in kept}, floor


def head_operation(resource: str, before: Head, after: Head) -> Any:
    """What has a transaction write a head, and fail where that is no longer as it was before."""
    from azure.core import MatchConditions

    entity: dict[str, Any] = {"PartitionKey": resource, "RowKey": HEAD, "kind": HEAD}
    # One above the largest id does not fit a number's column.
    entity |= {"floor": str(after.floor)} | {name: rows.long(getattr(after, name)) for name in _NUMBERS}
    if after.newest is not before.newest or before.etag is None:
        entity["newest"] = _pack(after.newest)
    if before.etag is None:
        return "create", entity
    return "update", entity, {"etag": before.etag, "match_condition": MatchConditions.IfNotModified}


def _pack(newest: Mapping[int, str]) -> bytes:
    return zlib.compress("\n".join(f"{number} {text}" for number, text in newest.items()).encode(), 1)


def _unpack(packed: bytes) -> dict[int, str]:
    lines = zlib.decompress(packed).decode().split("\n")
    return {int(number): text for number, _, text in (line.partition(" ") for line in lines if line)}


def mark_pending(
    storage: Storage, resource: str, ids: Sequence[int], due: datetime, *, backfill: bool, since: str
) -> None:
    """Have items reconciled again then; `since` is when that was first tried."""
    rows.insert(storage.table(TABLE), pending(resource, ids, due, backfill) | {"since": since})


def due_marks(storage: Storage, resource: str, moment: datetime, limit: int) -> list[Mapping[str, Any]]:
    """The rows of what is to be reconciled by then, the longest due first; at most so many."""
    query = f"PartitionKey eq '{resource}' and RowKey ge '{_PENDING}' and RowKey lt '{_PENDING}{stamp(moment)}~'"
    return list(islice(storage.table(TABLE).query_entities(query), limit))


def drop_mark(storage: Storage, mark: Mapping[str, Any]) -> None:
    """Delete a row that was due, once its items are reconciled."""
    rows.delete(storage.table(TABLE), mark["PartitionKey"], mark["RowKey"])


def arrival(resource: str, sequence: int, ids: Iterable[int]) -> dict[str, Any]:
    """A row that says in which place of the order of arrival items came."""
    return _mark(resource, "arrival", f"{ARRIVAL}{sequence:020d}", ids)


def pending(resource: str, ids: Iterable[int], due: datetime, backfill: bool) -> dict[str, Any]:
    """A row that has items reconciled from a moment on."""
    return _mark(resource, "pending", f"{_PENDING}{stamp(due)}-{uuid4().hex[:8]}", ids) | {"backfill": backfill}


def stamp(moment: datetime) -> str:
    """A moment as the keys of these rows have it: microseconds since 1970, all as long."""
    return f"{max(int(moment.timestamp() * MICROSECONDS_PER_SECOND), 0):020d}"


def _mark(resource: str, kind: str, key: str, ids: Iterable[int]) -> dict[str, Any]:
    return {"PartitionKey": resource, "RowKey": key, "kind": kind, "ids": json.dumps(list(ids))}
