"""Deletes many rows at an age: a page at a time in transactions, within a bound of time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from shared.storage import rows
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from azure.data.tables import TableClient
    from azure.storage.blob import ContainerClient


# A transaction takes a hundred rows of one partition.
IN_BATCH = 100
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Period:
    """A span from `first` (None: ever) to before `last`."""

    first: datetime | None
    last: datetime

    def condition(self, column: str) -> str:
        """Return the condition on a column with a time."""
        since = f"{column} ge datetime'{iso(self.first)}' and " if self.first else ""
        return f"({since}{column} lt datetime'{iso(self.last)}')"


@dataclass(slots=True)
class Allowance:
    """The time that a run has, by time.monotonic(); `dry` only counts, `complete` is False once it ends early."""

    until: float
    dry: bool = False
    complete: bool = True

    @property
    def spent(self) -> bool:
        """Return True once the time is over."""
        return time.monotonic() > self.until


def expire_rows(
    table: TableClient,
    condition: str,
    allowance: Allowance,
    *,
    select: Iterable[str] = (),
    delete: Callable[[Sequence[Any]], None] | None = None,
) -> int:
    """
    Delete the rows that meet a condition, and return their number; up to a hundred of a partition go at a time.

    `delete` takes the place of their deletion. Some are deleted also where no time is left, so that each run gets on.
    """
    query = table.query_entities(condition, select=["PartitionKey", "RowKey", *select], results_per_page=_PAGE)
    count = 0
    for page in query.by_page():
        for _, group in groupby(page, lambda row: row["PartitionKey"]):
            found = list(group)
            for start in range(0, len(found), IN_BATCH):
                batch = found[start : start + IN_BATCH]
                if not allowance.dry:
                    (delete or partial(delete_keys, table))(batch)
                count += len(batch)
                if allowance.spent:
                    allowance.complete = False
                    return count
    return count


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


def delete_versions(container: ContainerClient, stem: str) -> int:
    """Delete the blobs whose names begin so with all their versions, and return the number of blobs and versions."""
    deleted = 0
    # A blob that is deleted becomes a version: only then may it be deleted by its version's id.
    for blob in container.list_blobs(name_starts_with=stem):
        container.delete_blob(blob.name, delete_snapshots="include")
        deleted += 1
    for blob in container.list_blobs(name_starts_with=stem, include=["versions"]):
        if blob.version_id:
            container.delete_blob(blob.name, version_id=blob.version_id)
            deleted += not blob.is_current_version
    return deleted
