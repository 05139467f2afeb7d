"""Keeps tombstones of erased people in table `forgotten`: nothing behind one comes back, new things are new."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared import people
from shared.once import once
from shared.storage import rows
from shared.storage.account import reaching_storage
from shared.storage.expiry import IN_BATCH

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from shared.storage.account import Storage

TABLE = "forgotten"
# Tombstones of numbers are few, and every process remembers them all; those of calls and audio are looked up.
_NUMBERS, _THINGS, _STATE = "number", "thing", "state"
# A process may go on for so long without looking for new tombstones.
MEMORY_SECONDS = 5.0


def forget(storage: Storage, subjects: Collection[str], moment: datetime) -> None:
    """Store tombstones: what has to do with a subject and began up to this moment is not taken in again."""
    for partition in (_NUMBERS, _THINGS):
        keys = [people.digest(storage, one) for one in sorted(subjects) if _partition(one) == partition]
        operations = [
            ("upsert", {"PartitionKey": partition, "RowKey": key, "until": moment}, {"mode": "replace"}) for key in keys
        ]
        for start in range(0, len(operations), IN_BATCH):
            rows.transact(storage.table(TABLE), operations[start : start + IN_BATCH])

    def later(row: rows.Row | None) -> dict[str, Any]:
        # Written each time, so that its ETag tells others to look again.
        return {"until": moment if row is None else max(row["until"], moment)}

    rows.change(storage.table(TABLE), _STATE, _STATE, later)


def is_before(storage: Storage, moment: datetime) -> bool:
    """Return True if something was erased after this moment, so that its subjects have to be looked for."""
    latest, _ = _memory(storage).known(fresh=False)
    return latest is not None and moment <= latest


def is_forgotten(storage: Storage, subjects: Collection[str], moment: datetime, *, fresh: bool = False) -> bool:
    """
    Return True if what began at this moment and has to do with these subjects was erased.

    Nothing is read for what is newer than every tombstone. `fresh` sees also those of the last seconds.
    """
    latest, numbers = _memory(storage).known(fresh=fresh)
    if latest is None or moment > latest or not subjects:
        return False
    for subject in subjects:
        key = people.digest(storage, subject)
        if _partition(subject) == _NUMBERS:
            until = numbers.get(key)
        else:
            row = rows.get(storage.table(TABLE), _THINGS, key)
            until = row["until"] if row is not None else None
        if until is not None and moment <= until:
            return True
    return False


def _partition(subject: str) -> str:
    return _NUMBERS if subject.startswith("number ") else _THINGS


class _Memory:
    """The tombstones of numbers, read again where the state's row has changed, which is looked at every few seconds."""

    def __init__(self, storage: Storage) -> None:
        self._table = storage.table(TABLE)
        self._lock = Lock()
        self._until = -1.0
        self._etag = ""
        self._latest: datetime | None = None
        self._numbers: dict[str, datetime] = {}

    def known(self, *, fresh: bool) -> tuple[datetime | None, dict[str, datetime]]:
        """Return the latest moment of all tombstones and those of numbers, by their hash."""
        with self._lock:
            if fresh or time.monotonic() >= self._until:
                state = rows.get(self._table, _STATE, _STATE)
                if state is not None and state.etag != self._etag:
                    with reaching_storage():
                        found = list(self._table.query_entities(f"PartitionKey eq '{_NUMBERS}'"))
                    self._numbers = {row["RowKey"]: row["until"] for row in found}
                    self._latest, self._etag = state["until"], state.etag
                self._until = time.monotonic() + MEMORY_SECONDS
            return self._latest, self._numbers


@once
def _memory(storage: Storage) -> _Memory:
    return _Memory(storage)
