"""Rows of table `resources` that list items: in the order of arrival, and those that are still to be reconciled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shared.items.head import TABLE
from shared.items.reader import ARRIVAL
from shared.times import MICROSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from shared.storage.account import Storage

PENDING = "p"


def mark_pending(
    storage: Storage, resource: str, ids: Sequence[int], due: datetime, *, backfill: bool, since: str
) -> None:
    """Have items reconciled again then; `since` is when that was first tried."""
    storage.table(TABLE).create_entity(pending(resource, ids, due, backfill) | {"since": since})


def arrival(resource: str, sequence: int, ids: Iterable[int]) -> dict[str, Any]:
    """A row that says in which place of the order of arrival items came."""
    return _mark(resource, "arrival", f"{ARRIVAL}{sequence:020d}", ids)


def pending(resource: str, ids: Iterable[int], due: datetime, backfill: bool) -> dict[str, Any]:
    """A row that has items reconciled from a moment on."""
    stamp = int(due.timestamp() * MICROSECONDS_PER_SECOND)
    return _mark(resource, "pending", f"{PENDING}{stamp:020d}-{uuid4().hex[:8]}", ids) | {"backfill": backfill}


def _mark(resource: str, kind: str, key: str, ids: Iterable[int]) -> dict[str, Any]:
    return {"PartitionKey": resource, "RowKey": key, "kind": kind, "ids": json.dumps(list(ids))}
