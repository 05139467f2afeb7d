"""The head of a resource in table `resources`: its newest items in one row, read once a second however many ask."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from shared.identifiers import LARGEST_ID
from shared.once import once
from shared.storage import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shared.items.intake import Row
    from shared.storage.account import Storage

TABLE = "resources"
HEAD = "head"
# In column `kind`, which differs between items and the rows that keep their order and state.
ITEM = "item"
# How long a process may go on without looking what others have stored meanwhile.
STALE_SECONDS = 1.0
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
            numbers = {name: row[name].value for name in ("sequence", "count", "smallest", "largest")}
            head = Head(etag=row.etag, newest=_unpack(row["newest"]), floor=int(row["floor"]), **numbers)
        self._keep(resource, began, head)
        return head

    def recent(self, resource: str) -> Head:
        """The head as it was at most a second ago, with everything that this process has stored."""
        as_of, head = self._known.get(resource, (0.0, None))
        return head if head and self._clock() < as_of + STALE_SECONDS else self.read(resource)

    def written(self, resource: str, head: Head) -> None:
        """Note what this process has just made of a head."""
        self._keep(resource, self._clock(), head)

    def _keep(self, resource: str, as_of: float, head: Head) -> None:
        with self._lock:
            if resource not in self._known or self._known[resource][0] <= as_of:
                self._known[resource] = as_of, head


@once
def heads(storage: Storage) -> Heads:
    """This process's view of the heads in a storage account."""
    return Heads(storage)


def head_after(head: Head, rows: Sequence[Row]) -> Head:
    """The head once these rows are written; its clock never goes back, also where the machine's does."""
    ids = [row.id for row in rows]
    gone = sum(row.removed for row in rows)
    newest, floor = head.newest, head.floor
    if any(row.id >= floor for row in rows):
        newest, floor = _newest(head, rows)
    return replace(
        head,
        sequence=max(time.time_ns() // 1000, head.sequence + 1),
        count=head.count + sum(row.arrives for row in rows) - gone,
        smallest=min(head.smallest, *ids),
        largest=max(head.largest, *ids),
        floor=floor,
        newest=newest,
    )


def _newest(head: Head, rows: Sequence[Row]) -> tuple[Mapping[int, str], int]:
    merged = dict(head.newest) | {row.id: row.text for row in rows if row.id >= head.floor}
    for row in rows:
        if row.removed:
            merged.pop(row.id, None)
    kept, floor = sorted(merged, reverse=True), head.floor
    size = _IN_HEAD
    while len(kept) > size or len(pack({number: merged[number] for number in kept})) > _LONGEST_HEAD:
        size = size if len(kept) > size else len(kept) // 2
        # What falls out was the smallest: the head says nothing of it and of anything below the ones that stay.
        floor = kept[size] + 1
        kept = kept[:size]
    return {number: merged[number] for number in kept}, floor


def pack(newest: Mapping[int, str]) -> bytes:
    """Items by id as bytes for a column."""
    return zlib.compress("\n".join(f"{number} {text}" for number, text in newest.items()).encode(), 1)


def _unpack(packed: bytes) -> dict[int, str]:
    lines = zlib.decompress(packed).decode().split("\n")
    return {int(number): text for number, _, text in (line.partition(" ") for line in lines if line)}
