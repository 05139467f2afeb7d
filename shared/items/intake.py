"""How items get into table `resources`, and out of it: each resource's in batches, strictly one after the other."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from shared import health
from shared.errors import Conflict
from shared.items.content import content_hash
from shared.items.head import ARRIVAL, ITEM, TABLE, Head, arrival, head_after, head_operation, heads, pending, stamp
from shared.items.index import KINDS
from shared.items.reader import known
from shared.json_bodies import encode
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES, resource
from shared.storage.expiry import Expired, expire_rows
from shared.storage.messages import put_payload
from shared.storage.rows import LOST, row_key, transact
from shared.times import event_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from shared.items.reader import Item, Known
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Period

# A transaction takes 100 operations and 4 MiB; three are the head, the arrival and what is still to be reconciled.
_IN_BATCH = 97
_BYTES_IN_BATCH = 2 * 1024 * 1024
_LONGEST_TEXT = 30 * 1024
_LONGEST_PACKED = 60 * 1024
_LONGEST_ON_THE_WIRE = 80 * 1024
_TRIES = 20
Batch = TypeVar("Batch")


class Stale(Exception):
    """Somebody else wrote to the same resource in between: look again before writing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An item on its way in, with what is stored of it so far; a `baseline` was there before, and does not arrive."""

    id: int
    text: str
    hash: str
    before: Known | None = None
    removed: bool = False
    baseline: bool = False
    began: datetime | None = None

    @property
    def revision(self) -> int:
        """How often the item has changed, come or gone since it was first seen, this time included."""
        return self.before.revision + 1 if self.before else 0

    @property
    def arrives(self) -> bool:
        """Whether the item was not there before."""
        return not self.removed and (self.before is None or self.before.removed)


def row_of(
    item_id: int, item: Item, before: Known | None = None, *, removed: bool = False, baseline: bool = False
) -> Row:
    """A row for an item; hashing is done here, once."""
    text, sha256 = encode(item).decode(), content_hash(item)
    began = event_time(item.get("callStarted"))
    return Row(id=item_id, text=text, hash=sha256, before=before, removed=removed, baseline=baseline, began=began)


class Intake:
    """
    Writes one resource's items.

    Each batch is one transaction with the items, their arrival, the new head, and where `due` is given a mark that
    they are to be reconciled then. The head's ETag lets writers at the same time take turns.
    """

    def __init__(self, storage: Storage, resource: str) -> None:
        self._storage = storage
        self._resource = resource
        self.head = heads(storage).read(resource)

    def add(self, rows: Sequence[Row], moment: datetime, *, due: datetime | None = None, backfill: bool = False) -> int:
        """Store items that are not stored yet; returns how many that were. Raises Conflict when others kept coming."""
        write = partial(self.write, moment=moment, due=due, backfill=backfill)
        new = (self._in_turn(batch, write, self._not_there) for batch in batches(sorted(rows, key=lambda row: row.id)))
        return sum(map(len, new))

    def _not_there(self, rows: list[Row]) -> list[Row]:
        there = known(self._storage, self._resource, [row.id for row in rows])
        return [row for row in rows if row.id not in there]

    def overwrite(self, rows: Sequence[Row], moment: datetime) -> None:
        """Store items that are stored already and say more now; the last one to come wins. Raises as `add` does."""
        for batch in batches(rows):
            self._in_turn(batch, partial(self.write, moment=moment), lambda rows: rows)

    def forget(self, ids: Mapping[int, bool]) -> None:
        """Delete stored items by id, each with whether it is listed; raises as `add` does."""
        chosen = list(ids.items())
        for start in range(0, len(chosen), _IN_BATCH):
            self._in_turn(dict(chosen[start : start + _IN_BATCH]), self._forget, self._still_there)

    def _still_there(self, ids: dict[int, bool]) -> dict[int, bool]:
        there = known(self._storage, self._resource, list(ids))
        return {id: not there[id].removed for id in ids if id in there}

    def _in_turn(self, batch: Batch, write: Callable[[Batch], None], left: Callable[[Batch], Batch]) -> Batch:
        """Write a batch, or what is `left` of it each time that somebody else has written; what was written."""
        for _ in range(_TRIES):
            try:
                if batch:
                    write(batch)
                return batch
            except Stale:
                self.head = heads(self._storage).read(self._resource)
                batch = left(batch)
        raise Conflict(f"{self._resource} kept changing")

    def write(
        self, rows: Sequence[Row], moment: datetime, *, due: datetime | None = None, backfill: bool = False
    ) -> None:
        """Write one batch as it is; raises Stale when anything of the resource has changed since `head` was read."""
        after = head_after(self.head, rows)
        operations: list[Any] = [self._operation(row, moment) for row in rows]
        arrived = sorted(row.id for row in rows if row.arrives and not row.baseline)
        if arrived:
            operations.append(("create", arrival(self._resource, after.sequence, arrived)))
        if arrived and due:
            operations.append(("create", pending(self._resource, arrived, due, backfill)))
        operations.append(head_operation(self._resource, self.head, after))
        self._submit(operations, after)
        self._count_drift(rows)

    def _count_drift(self, rows: Sequence[Row]) -> None:
        """Count the fields of new or changed items that are unknown or do not fit the PBX's reference; in memory."""
        # Loaded where the first item comes: pydantic is a third of a cold start.
        from shared.events.model import item_drift

        shape = operation(resource(self._resource).read_operation).item
        for row in rows:
            if not row.removed:
                health.drifted(self._storage, item_drift(shape, json.loads(row.text)))

    def _forget(self, ids: Mapping[int, bool]) -> None:
        newest = self.head.newest
        if not newest.keys().isdisjoint(ids):
            newest = {number: text for number, text in newest.items() if number not in ids}
        after = replace(self.head, count=self.head.count - sum(ids.values()), newest=newest)
        operations: list[Any] = [("delete", {"PartitionKey": self._resource, "RowKey": row_key(id)}) for id in ids]
        self._submit([*operations, head_operation(self._resource, self.head, after)], after)

    def _submit(self, operations: list[Any], after: Head) -> None:
        from azure.data.tables import TableTransactionError

        try:
            answers = transact(self._storage.table(TABLE), operations)
        except TableTransactionError as error:
            if error.status_code not in LOST:
                raise
            raise Stale from error
        self.head = replace(after, etag=answers[-1]["etag"])
        heads(self._storage).written(self._resource, self.head)

    def note(self, changes: Mapping[int, Mapping[str, Any]]) -> None:
        """Set columns of stored rows that say nothing of their items' content, such as since when one is missing."""
        operations = [
            ("update", {"PartitionKey": self._resource, "RowKey": row_key(id), **columns})
            for id, columns in changes.items()
        ]
        for start in range(0, len(operations), _IN_BATCH):
            transact(self._storage.table(TABLE), operations[start : start + _IN_BATCH])

    def _operation(self, row: Row, moment: datetime) -> Any:
        entity: dict[str, Any] = {"PartitionKey": self._resource, "RowKey": row_key(row.id), "hash": row.hash}
        entity |= {"kind": ITEM, "lastSeen": moment, "revision": row.revision} | self._content(row)
        if row.before is None:
            return "create", entity | {"firstSeen": moment, "began": row.began or moment}
        entity |= {"began": row.began} if row.began else {}
        return "update", entity | {"removed": row.removed, "missed": 0}

    def _content(self, row: Row) -> dict[str, Any]:
        """The item in a column that holds it; those of before are emptied."""
        text = row.text.encode()
        empty: dict[str, Any] = {} if row.before is None else {"item": "", "packed": b"", "payload": ""}
        if len(text) <= _LONGEST_TEXT:
            return empty | {"item": row.text}
        packed = zlib.compress(text)
        if len(packed) <= _LONGEST_PACKED:
            return empty | {"packed": packed}
        name = f"{TABLE}/{self._resource}/{row.id}-{row.hash}"
        return empty | {"payload": put_payload(self._storage, name, text)}


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in groups that fit one transaction."""
    batch, size = list[Row](), 0
    for row in rows:
        long = len(row.text) if len(row.text) <= _LONGEST_TEXT else _LONGEST_ON_THE_WIRE
        if batch and (len(batch) == _IN_BATCH or size + long > _BYTES_IN_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += long
    if batch:
        yield batch


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """
    Delete the items that began within a period, and the marks of what arrived in it.

    Of what can be edited, only what the PBX has removed goes, once it was last seen within the period.
    """

    def delete(found: Sequence[Any]) -> None:
        # Out of the head, too: writers of a resource take turns there.
        intake = Intake(storage, found[0]["PartitionKey"])
        intake.forget({int(row["RowKey"]): not row.get("removed") for row in found})

    table, found = storage.table(TABLE), Expired()
    began = period.condition("began") + ("" if period.first else f" or {period.condition('firstSeen')}")
    low, high = ARRIVAL + (stamp(period.first) if period.first else ""), ARRIVAL + stamp(period.last)
    for row in RESOURCES:
        old = began if row.name in KINDS else f"removed eq true and {period.condition('lastSeen')}"
        items = f"PartitionKey eq '{row.name}' and RowKey ge '{row_key(0)}' and RowKey lt ':' and ({old})"
        found += expire_rows(table, items, allowance, name=f"items of {row.name}", select=("removed",), delete=delete)
        marks = f"PartitionKey eq '{row.name}' and RowKey ge '{low}' and RowKey lt '{high}'"
        found += expire_rows(table, marks, allowance, name=f"arrivals of {row.name}")
    return found
