"""The one row of table `budget` that holds an account's ledger, read and replaced by compare-and-swap."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.pbx.budget import ledger as ledgers
from shared.pbx.budget.ledger import Ledger
from shared.storage import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.pbx.budget.ledger import Terms
    from shared.storage.account import Storage

TABLE = "budget"
_ROW = "calls"
_ALONE_AFTER_SECONDS = 120.0
# Whoever asks holds up the process's other callers, who wait two seconds: no retries, and sooner than elsewhere.
_OPTIONS: Mapping[str, Any] = {"connection_timeout": 1, "read_timeout": 4, "retry_total": 0}


def calls_now(storage: Storage, account: str, terms: Terms) -> int:
    """How many calls count against an account's limit; raises StorageUnavailable."""
    row, now = rows.get(storage.table(TABLE), account, _ROW), time.time()
    return 0 if row is None else ledgers.read(row.get("blocks"), now, terms).at(now, terms).used


@dataclass(slots=True)
class LedgerRow:
    """
    What the row holds, as this process saw it last; for one thread at a time.

    `seen` is None before the first look and after a swap that failed.
    """

    _storage: Storage
    _account: str
    _terms: Terms
    _clock: Callable[[], float]
    seen: Ledger | None = None
    _etag: str | None = None
    # When others were last seen to have written.
    _met: float = -math.inf

    @property
    def contended(self) -> bool:
        """Whether others wrote lately, so that a swap without a look before it would probably fail."""
        return time.monotonic() < self._met + _ALONE_AFTER_SECONDS * self._terms.scale

    def look(self) -> None:
        """Read the row; a row that is not there yet is an empty ledger. Raises StorageUnavailable."""
        row = rows.get(self._storage.table(TABLE), self._account, _ROW, **_OPTIONS)
        etag = None if row is None else row.etag
        if self._etag not in (None, etag):
            self._met = time.monotonic()
        self.seen = Ledger() if row is None else ledgers.read(row.get("blocks"), self._clock(), self._terms)
        self._etag = etag

    def swap(self, new: Ledger) -> bool:
        """
        Replace the ledger if nobody has since it was seen; whether that worked.

        Raises StorageUnavailable when it may have worked.
        """
        row = {"PartitionKey": self._account, "RowKey": _ROW, "blocks": ledgers.write(new)}
        etag, self.seen = self._etag, None
        if (written := rows.swap(self._storage.table(TABLE), row, etag, tries=1, **_OPTIONS)) is None:
            self._met = time.monotonic()
            return False
        self.seen, self._etag = new, written
        return True
