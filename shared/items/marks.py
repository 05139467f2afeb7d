"""Rows of table `resources` that list items: in the order of arrival, and those that are still to be reconciled."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shared.items.head import TABLE
from shared.items.reader import ARRIVAL
from shared.storage import rows
from shared.times import MICROSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from shared.storage.account import Storage

PENDING = "p"


def mark_pending(
    storage: Storage, resource: str, ids: Sequence[int], due: datetime, *, backfill: bool, since: str
) -> None:
    """Have items reconciled again then; `since` is when that was first tried."""
    rows.insert(storage.table(TABLE), pending(resource, ids, due, backfill) | {"since": since})


def due(storage: Storage, resource: str, moment: datetime, limit: int) -> list[Mapping[str, Any]]:
    """The rows of what is to be reconciled by then, the longest due first; at most so many."""
    last = f"{PENDING}{_stamp(moment)}~"
    query = f"PartitionKey eq '{resource}' and RowKey ge '{PENDING}' and RowKey lt '{last}'"
    return list(islice(storage.table(TABLE).query_entities(query), limit))


def drop(storage: Storage, mark: Mapping[str, Any]) -> None:
    """Delete a row that was due, once its items are reconciled."""
    rows.delete(storage.table(TABLE), mark["PartitionKey"], mark["RowKey"])


def arrival(resource: str, sequence: int, ids: Iterable[int]) -> dict[str, Any]:
    """A row that says in which place of the order of arrival items came."""
    return _mark(resource, "arrival", f"{ARRIVAL}{sequence:020d}", ids)


def pending(resource: str, ids: Iterable[int], due: datetime, backfill: bool) -> dict[str, Any]:
    """A row that has items reconciled from a moment on."""
    return _mark(resource, "pending", f"{PENDING}{_stamp(due)}-{uuid4().hex[:8]}", ids) | {"backfill": backfill}


def _stamp(moment: datetime) -> str:
    return f"{int(moment.timestamp() * MICROSECONDS_PER_SECOND):020d}"


def _mark(resource: str, kind: str, key: str, ids: Iterable[int]) -> dict[str, Any]:
    return {"PartitionKey": resource, "RowKey": key, "kind": kind, "ids": json.dumps(list(ids))}
