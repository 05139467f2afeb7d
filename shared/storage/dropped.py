"""Table `retention`: how far the deletion of old history is, and which months were dropped and stay so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.storage import rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.account import Storage

TABLE = "retention"
_PROGRESS, _DROPPED = "progress", "dropped"


def progress(storage: Storage, name: str) -> dict[str, Any]:
    """Where the last deletion under this name ended, by table; empty for one that begins."""
    row = rows.get(storage.table(TABLE), _PROGRESS, name)
    after: dict[str, Any] = json.loads(row["after"]) if row is not None else {}
    return after


def note_progress(storage: Storage, name: str, after: Mapping[str, Any]) -> None:
    """Note where a deletion ended."""
    rows.put(storage.table(TABLE), {"PartitionKey": _PROGRESS, "RowKey": name, "after": json.dumps(after)})


def note_month(storage: Storage, month: str) -> None:
    """Note that a month (`yyyy-mm`, UTC) is dropped: what the PBX still lists of it is not taken in again."""
    rows.put(storage.table(TABLE), {"PartitionKey": _DROPPED, "RowKey": month})


def months(storage: Storage) -> set[str]:
    """The months that were dropped; one storage operation."""
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{_DROPPED}'", select=["RowKey"])
    return {str(row["RowKey"]) for row in found}
