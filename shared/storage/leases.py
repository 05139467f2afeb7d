"""A lease in table storage: one process at a time does what must not be done twice."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from shared.errors import Conflict
from shared.storage import rows
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.storage.account import Storage

PARTITION = "lease"
# Longer than any single step between two renewals takes, and how long a process that died keeps others waiting.
LENGTH = timedelta(seconds=45)
_LOOK_SECONDS = 0.2


class Lease:
    """A row that names its holder until a moment; whoever finds that moment passed may take it over."""

    def __init__(self, storage: Storage, table: str, name: str) -> None:
        self._table = storage.table(table)
        self._name = name
        self._owner = uuid4().hex
        self._etag: str | None = None

    def take(self) -> None:
        """Take the lease, or prolong it; raises Conflict when somebody else holds it."""
        before = None if self._etag else rows.get(self._table, PARTITION, self._name)
        if before is None or before["until"] <= now():
            row = {"PartitionKey": PARTITION, "RowKey": self._name, "owner": self._owner, "until": now() + LENGTH}
            taken = rows.swap(self._table, row, before.etag if before else self._etag)
            self._etag = taken.etag if taken else None
        if self._etag is None:
            raise Conflict(f"{self._name} is being worked on elsewhere")

    def free(self) -> None:
        """Let the next one have it."""
        if self._etag is not None:
            rows.delete(self._table, PARTITION, self._name, self._etag)


@contextmanager
def leased(storage: Storage, table: str, name: str, *, patience: float = 0) -> Iterator[Lease]:
    """
    Hold the lease within; what takes long calls `take` again in between.

    Raises Conflict when somebody else still holds it after `patience` seconds.
    """
    lease, deadline = Lease(storage, table, name), time.monotonic() + patience
    while True:
        try:
            lease.take()
            break
        except Conflict:
            if time.monotonic() >= deadline:
                raise
            threading.Event().wait(_LOOK_SECONDS)
    try:
        yield lease
    finally:
        lease.free()
