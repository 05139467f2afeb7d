"""Table `webhooks`: our webhooks at the PBX, how the last sync ended, and whether they were deleted for good."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from shared.errors import StorageUnavailable
from shared.storage import rows
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.account import Storage

TABLE = "webhooks"
PARTITION = "webhook"
INTENDED, HELD, ORPHANED = "intended", "held", "maybe orphaned"
_ENDED = "ended"
_SYNC, _LAST = "sync", "last"


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
    ended = next((iso(row["since"]) for row in found[_ENDED]), None)
    problem = next((str(row["problem"]) for row in found[_SYNC]), None)
    return [_webhook(row) for row in found[PARTITION]], ended, problem


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


def ended_since(storage: Storage) -> str | None:
    """Return the time at which all webhooks were deleted for good; None while they are kept registered."""
    row = rows.get(storage.table(TABLE), _ENDED, _ENDED)
    return None if row is None else iso(row["since"])


def end(storage: Storage, since: str) -> None:
    """Keep none registered from now on, until `resume`."""
    rows.put(storage.table(TABLE), {"PartitionKey": _ENDED, "RowKey": _ENDED, "since": parse_time(since)})


def resume(storage: Storage) -> None:
    """Keep them registered again."""
    rows.delete(storage.table(TABLE), _ENDED, _ENDED)


def synced(storage: Storage, problem: str | None) -> None:
    """Store how a sync ended."""
    row = {"PartitionKey": _SYNC, "RowKey": _LAST, "at": now(), "problem": problem or ""}
    rows.put(storage.table(TABLE), row)


def _webhook(row: Mapping[str, Any]) -> Webhook:
    names = [part.name for part in fields(Webhook) if part.name not in ("key", "created") and part.name in row]
    return Webhook(key=row["RowKey"], created=iso(row["created"]), **{name: row[name] for name in names})


def endpoint_hash(url: str) -> str:
    """Return what is kept of an endpoint, to see whether it has changed."""
    return hashlib.sha256(url.encode()).hexdigest()
