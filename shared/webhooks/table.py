"""Table `webhooks`: our webhooks at the PBX, and one row of who syncs them, how that ended, and whether they ended."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import Conflict
from shared.storage import rows
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from shared.storage.account import Storage
    from shared.storage.rows import Row

TABLE = "webhooks"
PARTITION = "webhook"
INTENDED, HELD, ORPHANED = "intended", "held", "maybe orphaned"
SYNC, _LAST = "sync", "last"
# Longer than any single step between two renewals takes, and how long a process that died keeps others waiting.
LENGTH = timedelta(seconds=45)
_LOOK_SECONDS = 0.2
_ELSEWHERE = "webhooks are being synced elsewhere"


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """
    A row: one webhook that we made, or may have made; `endpoint` is a hash of its URL, which holds a key.

    It is `intended` before the PBX is asked, `held` afterwards, and `maybe orphaned` where nobody knows whether
    the PBX made it, or under which id.
    """

    key: str
    event: str
    state: str
    endpoint: str
    host: str
    created: str
    id: str = ""

    def row(self) -> dict[str, Any]:
        """Return its columns."""
        columns = asdict(self)
        return {"PartitionKey": PARTITION, "RowKey": columns.pop("key"), **columns}

    def to_dict(self) -> dict[str, Any]:
        """Return it for people to read."""
        known = self.id or (None if self.state == INTENDED else "unknown")
        return {"event": self.event, "id": known, "state": self.state, "host": self.host, "created": self.created}


def read_webhooks(storage: Storage) -> list[Webhook]:
    """Return all webhooks that we made and still know of."""
    return _webhooks(storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}'"))


def read(storage: Storage) -> tuple[list[Webhook], str | None, str | None]:
    """Return the webhooks, since when they are deleted for good, and what stood in the way of the last sync."""
    found = list(storage.table(TABLE).list_entities())
    last: Mapping[str, Any] = next((row for row in found if row["PartitionKey"] == SYNC), {})
    return _webhooks(found), last.get("ended"), last.get("problem")


def ended_since(storage: Storage) -> str | None:
    """Return the time at which all webhooks were deleted for good; None while they are kept registered."""
    row = rows.get(storage.table(TABLE), SYNC, _LAST)
    return row.get("ended") if row is not None else None


def save(storage: Storage, webhook: Webhook) -> None:
    """Store a webhook, or its new state."""
    rows.put(storage.table(TABLE), webhook.row())


def forget(storage: Storage, webhook: Webhook) -> None:
    """Delete the row of a webhook that the PBX does not have."""
    rows.delete(storage.table(TABLE), PARTITION, webhook.key)


def endpoint_hash(url: str) -> str:
    """Return what is kept of an endpoint, to see whether it has changed."""
    return hashlib.sha256(url.encode()).hexdigest()


class Lease:
    """The row of syncs: one at a time has it until a moment; whoever finds that moment passed may take it over."""

    def __init__(self, storage: Storage) -> None:
        self._table = storage.table(TABLE)
        self._row: Row | None = None

    @property
    def ended_since(self) -> str | None:
        """The time at which all webhooks were deleted for good."""
        return self._row.get("ended") if self._row is not None else None

    def take(self) -> None:
        """Begin; raises Conflict while another sync runs."""
        self._row = rows.get(self._table, SYNC, _LAST)
        if self._row is not None and self._row["until"] > now():
            raise Conflict(_ELSEWHERE)
        self.note()

    def note(self, *, over: bool = False, **columns: str | None) -> None:
        """Set columns and go on for 45 seconds, or end; raises Conflict where another sync took over meanwhile."""
        until = now() + (timedelta() if over else LENGTH)
        row = {**(self._row or {}), "PartitionKey": SYNC, "RowKey": _LAST, "until": until, **columns}
        written = rows.swap(self._table, row, self._row.etag if self._row is not None else None)
        if written is None:
            raise Conflict(_ELSEWHERE)
        self._row = written


@contextmanager
def leased(storage: Storage, *, patience: float = 0) -> Iterator[Lease]:
    """Be the only sync within; raises Conflict when another one still runs after `patience` seconds."""
    lease, deadline = Lease(storage), time.monotonic() + patience
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
        # Where somebody else has it, there is nothing to end.
        with suppress(Conflict):
            lease.note(over=True)


def _webhooks(found: Iterable[Mapping[str, Any]]) -> list[Webhook]:
    columns = [column.name for column in fields(Webhook) if column.name != "key"]
    own = (row for row in found if row["PartitionKey"] == PARTITION)
    return [Webhook(key=row["RowKey"], **{name: row[name] for name in columns}) for row in own]
