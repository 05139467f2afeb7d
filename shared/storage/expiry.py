"""
Deleting many rows at an age: a page at a time in transactions, within a bound of time, going on where one ended.

Table `retention` says how far it is, and which months were dropped and stay so.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from shared.once import once
from shared.storage import rows
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from azure.data.tables import TableClient

    from shared.storage.account import Storage

TABLE = "retention"
_PROGRESS, _DROPPED = "progress", "dropped"
# A transaction takes a hundred rows of one partition.
IN_BATCH = 100
_PAGE = 1000
# A process may go on for so long without looking for months that were dropped meanwhile.
_MEMORY_SECONDS = 5.0

Row = Any


@dataclass(frozen=True, slots=True)
class Period:
    """From `first` (None: ever) to less than `last`."""

    first: datetime | None
    last: datetime

    def condition(self, column: str) -> str:
        """The condition on a column with a time."""
        since = f"{column} ge datetime'{iso(self.first)}' and " if self.first else ""
        return f"({since}{column} lt datetime'{iso(self.last)}')"


@dataclass(slots=True)
class Allowance:
    """How a run may work: until when by time.monotonic(), and whether it only counts."""

    until: float
    dry: bool = False
    # Where the last run ended and where this one does, by name: tokens of the table service.
    after: dict[str, Any] = field(default_factory=dict)

    @property
    def spent(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.until


@dataclass(frozen=True, slots=True)
class Expired:
    """How many rows were deleted, or would be, and whether that is all of them."""

    rows: int = 0
    complete: bool = True

    def __add__(self, other: Expired) -> Expired:
        return Expired(self.rows + other.rows, self.complete and other.complete)


def expire_rows(
    table: TableClient,
    condition: str,
    allowance: Allowance,
    *,
    name: str = "",
    select: Iterable[str] = (),
    delete: Callable[[Sequence[Row]], None] | None = None,
) -> Expired:
    """
    Delete the rows that meet a condition, up to a hundred of a partition at a time; `delete` does that in another way.

    A search that ends early because the time is over goes on there the next time, by its `name`.
    """
    name = name or table.table_name
    query = table.query_entities(condition, select=["PartitionKey", "RowKey", *select], results_per_page=_PAGE)
    token = None if allowance.dry else allowance.after.pop(name, None)
    pages: Any = query.by_page(token)
    count = 0
    for page in pages:
        for _, group in groupby(page, lambda row: row["PartitionKey"]):
            found = list(group)
            for start in range(0, len(found), IN_BATCH):
                if allowance.spent:
                    allowance.after[name] = token
                    return Expired(count, complete=False)
                batch = found[start : start + IN_BATCH]
                if not allowance.dry:
                    (delete or partial(delete_keys, table))(batch)
                count += len(batch)
        token = pages.continuation_token
    return Expired(count)


def delete_keys(table: TableClient, found: Sequence[Mapping[str, Any]]) -> None:
    """Delete rows of one partition, a hundred at a time; those that somebody else has deleted are gone all the same."""
    from azure.core.exceptions import HttpResponseError

    keys = [{"PartitionKey": row["PartitionKey"], "RowKey": row["RowKey"]} for row in found]
    for start in range(0, len(keys), IN_BATCH):
        batch = keys[start : start + IN_BATCH]
        try:
            rows.transact(table, [("delete", row) for row in batch])
        except HttpResponseError as error:
            if error.status_code not in rows.LOST:
                raise
            for row in batch:
                rows.delete(table, row["PartitionKey"], row["RowKey"])


def progress(storage: Storage, name: str) -> dict[str, Any]:
    """Where the last deletion under this name ended, by table; empty for one that begins."""
    row = rows.get(storage.table(TABLE), _PROGRESS, name)
    after: dict[str, Any] = json.loads(row["after"]) if row is not None else {}
    return after


def note_progress(storage: Storage, name: str, after: Mapping[str, Any]) -> None:
    """Note where a deletion ended."""
    rows.put(storage.table(TABLE), {"PartitionKey": _PROGRESS, "RowKey": name, "after": json.dumps(after)})


def note_dropped(storage: Storage, month: str) -> None:
    """Note that a month (`yyyy-mm`, UTC) is dropped: what the PBX still lists of it is not taken in again."""
    rows.put(storage.table(TABLE), {"PartitionKey": _DROPPED, "RowKey": month})
    _dropped(storage).until = -1.0


def is_dropped(storage: Storage, moment: datetime) -> bool:
    """True if the month of a moment was dropped, as far as was known some seconds ago."""
    return iso(moment)[:7] in dropped_months(storage)


def dropped_months(storage: Storage) -> set[str]:
    """Return the months that were dropped, read again after some seconds."""
    memory = _dropped(storage)
    if time.monotonic() >= memory.until:
        found = storage.table(TABLE).query_entities(f"PartitionKey eq '{_DROPPED}'", select=["RowKey"])
        memory.months = {str(row["RowKey"]) for row in found}
        memory.until = time.monotonic() + _MEMORY_SECONDS
    return memory.months


@dataclass(slots=True)
class _Dropped:
    """The dropped months as this process read them."""

    months: set[str] = field(default_factory=set)
    until: float = -1.0


@once
def _dropped(storage: Storage) -> _Dropped:
    return _Dropped()
