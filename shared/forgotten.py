"""Keeps tombstones of erased people in table `forgotten`: nothing behind one comes back, new things are new."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from shared import people
from shared.storage import rows
from shared.storage.account import Storage, once
from shared.storage.expiry import IN_BATCH

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime


TABLE = "forgotten"
_SUBJECT, _LATEST = "subject", "latest"
# A process may go on for so long without looking for new tombstones.
MEMORY_SECONDS = 5.0


def forget(storage: Storage, subjects: Collection[str], moment: datetime) -> None:
    """Store tombstones: what has to do with a subject and began up to this moment is not taken in again."""
    keys = [{"PartitionKey": _SUBJECT, "RowKey": people.digest(storage, one)} for one in sorted(subjects)]
    for start in range(0, len(keys), IN_BATCH):
        part = [("upsert", {**key, "until": moment}, {"mode": "replace"}) for key in keys[start : start + IN_BATCH]]
        rows.transact(storage.table(TABLE), part)

    def later(row: rows.Row | None) -> dict[str, Any]:
        return {"until": moment if row is None else max(row["until"], moment)}

    rows.change(storage.table(TABLE), _LATEST, _LATEST, later)
    _memory(storage).clear()


def is_before(storage: Storage, moment: datetime, *, fresh: bool = False) -> bool:
    """
    Return True if something was erased after this moment, so that its subjects have to be looked for.

    `fresh` sees also the tombstones of the last seconds.
    """
    memory = _memory(storage)
    read, latest = memory.get("latest", (-math.inf, None))
    if fresh or time.monotonic() >= read + MEMORY_SECONDS:
        row = rows.get(storage.table(TABLE), _LATEST, _LATEST)
        latest = row["until"] if row is not None else None
        memory["latest"] = time.monotonic(), latest
    return latest is not None and moment <= latest


def is_forgotten(storage: Storage, subjects: Collection[str], moment: datetime, *, fresh: bool = False) -> bool:
    """
    Return True if what began at this moment and has to do with these subjects was erased.

    Nothing is read for what is newer than every tombstone.
    """
    if not is_before(storage, moment, fresh=fresh):
        return False
    found = (rows.get(storage.table(TABLE), _SUBJECT, people.digest(storage, subject)) for subject in subjects)
    return any(row is not None and moment <= row["until"] for row in found)


@once
def _memory(storage: Storage) -> dict[str, tuple[float, datetime | None]]:
    return {}
