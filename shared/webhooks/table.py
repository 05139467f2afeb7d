"""Table `webhooks`: our webhooks at the PBX, and one row of who syncs them, how that ended, and whether they ended."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import Conflict, StorageUnavailable
from shared.storage import rows
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from shared.storage.account import Storage

TABLE = "webhooks"
PARTITION = "webhook"
INTENDED, HELD, ORPHANED = "intended", "held", "maybe orphaned"
SYNC, _LAST = "sync", "last"
# Longer than any single step between two renewals takes, and how long a process that died keeps others waiting.
LENGTH = timedelta(seconds=45)
_LOOK_SECONDS = 0.2


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
    id: str = ""
    created: str

    def row(self) -> dict[str, Any]:
        """Return its columns."""
        columns = asdict(self) | {"created": parse_time(self.created)}
        return {"PartitionKey": PARTITION, "RowKey": columns.pop("key"), **columns}

    def to_dict(self) -> dict[str, Any]:
        """Return it for people to read."""
        known = self.id or (None if self.state == INTENDED else "unknown")
        return {"event": self.event, "id": known, "state": self.state, "host": self.host, "created": self.created}


def read_webhooks(storage: Storage) -> list[Webhook]:
    """Return all webhooks that we made and still know of."""
    return [_webhook(row) for row in storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}'")]


def read(storage: Storage) -> tuple[list[Webhook], str | None, str | None]:
    """Return the webhooks, since when they are deleted for good, and what stood in the way of the last sync."""
    found = defaultdict[str, list[Any]](list)
    for row in storage.table(TABLE).list_entities():
        found[row["PartitionKey"]].append(row)
    last = found[SYNC][0] if found[SYNC] else {}
    return [_webhook(row) for row in found[PARTITION]], _since(last), last.get("problem")


def ended_since(storage: Storage) -> str | None:
    """Return the time at which all webhooks were deleted for good; None while they are kept registered."""
    return _since(rows.get(storage.table(TABLE), SYNC, _LAST) or {})


def intend(storage: Storage, webhook: Webhook) -> None:
    """
    Store a webhook before the PBX is asked for it.

    Raises StorageUnavailable where that may have failed; the PBX is not asked then, and the row is deleted if possible.
    """
    try:
        rows.insert(storage.table(TABLE), webhook.row())
    except StorageUnavailable:
        forget(storage, webhook)
        raise


def save(storage: Storage, webhook: Webhook) -> None:
    """Store the new state of a webhook."""
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
        self._columns: dict[str, Any] = {}
        self._etag: str | None = None

    @property
    def ended_since(self) -> str | None:
        """The time at which all webhooks were deleted for good."""
        return _since(self._columns)

    def take(self) -> None:
        """Begin; raises Conflict while another sync runs."""
        row = rows.get(self._table, SYNC, _LAST)
        if row is not None and row["until"] > now():
            raise _elsewhere()
        self._columns, self._etag = dict(row or {}), row.etag if row is not None else None
        self.note()

    def note(self, *, over: bool = False, **columns: Any) -> None:
        """Set columns and go on for 45 seconds, or end; raises Conflict where another sync took over meanwhile."""
        self._columns |= {"PartitionKey": SYNC, "RowKey": _LAST, "until": now() + (timedelta() if over else LENGTH)}
        self._columns |= columns
        row = {name: value for name, value in self._columns.items() if value is not None}
        written = rows.swap(self._table, row, self._etag)
        if written is None:
            raise _elsewhere()
        self._etag = written.etag


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


def _elsewhere() -> Conflict:
    return Conflict("webhooks are being synced elsewhere")


def _since(row: Mapping[str, Any]) -> str | None:
    since: datetime | None = row.get("ended")
    return iso(since) if since else None


def _webhook(row: Mapping[str, Any]) -> Webhook:
    columns = {name: row[name] for name in ("event", "state", "endpoint", "host", "id") if name in row}
    return Webhook(key=row["RowKey"], created=iso(row["created"]), **columns)
