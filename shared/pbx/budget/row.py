"""The one row of table `budget` that holds an account's ledger, read and replaced by compare-and-swap."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from shared.pbx.budget import ledger as ledgers
from shared.pbx.budget.ledger import Ledger
from shared.storage.account import reaching_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.pbx.budget.ledger import Terms
    from shared.storage.account import Storage

TABLE = "budget"
_ROW = "calls"
_ALONE_AFTER_SECONDS = 120.0
# Whoever asks holds up the process's other callers, who wait two seconds: no retries, and sooner than elsewhere.
_OPTIONS: Mapping[str, Any] = {"connection_timeout": 1, "read_timeout": 4, "retry_total": 0}


class LedgerRow:
    """
    What the row holds, as this process saw it last; for one thread at a time.

    `seen` is None before the first look and after a swap that failed.
    """

    def __init__(self, storage: Storage, account: str, terms: Terms, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._account = account
        self._terms = terms
        self._clock = clock
        self._etag: str | None = None
        self.seen: Ledger | None = None
        self._met = -math.inf

    @property
    def contended(self) -> bool:
        """Whether others wrote lately, so that a swap without a look before it would probably fail."""
        return time.monotonic() < self._met + _ALONE_AFTER_SECONDS * self._terms.scale

    def _meet(self) -> None:
        self._met = time.monotonic()

    def look(self) -> Ledger:
        """Read the row; a row that is not there yet is an empty ledger. Raises StorageUnavailable."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            with reaching_storage():
                row = self._storage.table(TABLE).get_entity(self._account, _ROW, **_OPTIONS)
        except ResourceNotFoundError:
            self.seen, self._etag = Ledger(), None
            return self.seen
        etag = row.metadata["etag"]
        if self._etag is not None and etag != self._etag:
            self._meet()
        self.seen, self._etag = ledgers.read(row.get("blocks"), self._clock(), self._terms), etag
        return self.seen

    def swap(self, new: Ledger) -> bool:
        """
        Replace the ledger if nobody has since it was seen; whether that worked.

        Raises StorageUnavailable when it may have worked.
        """
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
        from azure.data.tables import UpdateMode

        table = self._storage.table(TABLE)
        row = {"PartitionKey": self._account, "RowKey": _ROW, "blocks": ledgers.write(new)}
        etag, self.seen = self._etag, None
        options = dict(_OPTIONS)
        if etag:
            options |= {"mode": UpdateMode.REPLACE, "etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            with reaching_storage():
                answer = (table.update_entity if etag else table.create_entity)(row, **options)
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            self._meet()
            return False
        self.seen, self._etag = new, answer["etag"]
        return True
