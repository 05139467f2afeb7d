"""Table `webhooks`: what we made at the PBX, what is wanted there, and the key that its posts bring."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shared.errors import ConfigError, StorageUnavailable, Unauthorized
from shared.storage import rows
from shared.times import iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.events.table import Event
    from shared.settings import Settings
    from shared.storage.account import Storage

TABLE = "webhooks"
PARTITION = "webhook"
_ENDED = "ended"
INTENDED, HELD, ORPHANED = "intended", "held", "maybe orphaned"
_SETTINGS = {
    "PUBLIC_BASE_URL": "this app's own address, such as https://<app>.azurewebsites.net",
    "PBX_WEBHOOK_KEY": "the function key of the receivers",
}


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
    renewed_for: str = ""

    def row(self) -> dict[str, Any]:
        """Its columns."""
        columns = asdict(self) | {"created": parse_time(self.created)}
        return {"PartitionKey": PARTITION, "RowKey": columns.pop("key"), **columns}

    def to_dict(self) -> dict[str, Any]:
        """For people to read."""
        known = self.id or (None if self.state == INTENDED else "unknown")
        return {"event": self.event, "id": known, "state": self.state, "host": self.host, "created": self.created}


def read_webhooks(storage: Storage) -> list[Webhook]:
    """All that we made and still know of."""
    names = [part.name for part in fields(Webhook) if part.name not in ("key", "created")]
    return [
        Webhook(key=row["RowKey"], created=iso(row["created"]), **{name: row[name] for name in names if name in row})
        for row in storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}'")
    ]


def intend(storage: Storage, webhook: Webhook) -> None:
    """
    Note a webhook before the PBX is asked for it.

    Raises StorageUnavailable where that may have failed; the row is deleted then if storage can be reached, as the PBX
    is not asked.
    """
    try:
        rows.insert(storage.table(TABLE), webhook.row())
    except StorageUnavailable:
        forget(storage, webhook)
        raise


def note(storage: Storage, webhook: Webhook) -> None:
    """Write what is known of a webhook by now."""
    rows.put(storage.table(TABLE), webhook.row())


def forget(storage: Storage, webhook: Webhook) -> None:
    """Delete the row of a webhook that the PBX does not have."""
    rows.delete(storage.table(TABLE), PARTITION, webhook.key)


def ended_since(storage: Storage) -> str | None:
    """When all webhooks were deleted for good, as ISO 8601; None while they are kept registered."""
    row = rows.get(storage.table(TABLE), _ENDED, _ENDED)
    return None if row is None else iso(row["since"])


def end(storage: Storage, since: str) -> None:
    """Keep none registered from now on, until `resume`."""
    rows.put(storage.table(TABLE), {"PartitionKey": _ENDED, "RowKey": _ENDED, "since": parse_time(since)})


def resume(storage: Storage) -> None:
    """Keep them registered again."""
    rows.delete(storage.table(TABLE), _ENDED, _ENDED)


def endpoint(settings: Settings, event: Event) -> str:
    """The URL that the PBX posts an event to; a secret. Raises ConfigError while a setting for it is missing."""
    empty = [
        f"{name}: missing. Set it to {what}" for name, what in _SETTINGS.items() if not getattr(settings, name.lower())
    ]
    if empty:
        raise ConfigError("Settings missing for registering webhooks: " + "; ".join(empty))
    return f"{settings.public_base_url}api/events/{event.name}?code={quote(settings.pbx_webhook_key, safe='')}"


def endpoint_hash(url: str) -> str:
    """What is kept of an endpoint, to see whether it has changed."""
    return hashlib.sha256(url.encode()).hexdigest()


def check_key(settings: Settings, sent: Iterable[str]) -> None:
    """
    Raise Unauthorized unless one of the keys that were sent is PBX_WEBHOOK_KEY, or PBX_WEBHOOK_KEY_PREVIOUS.

    The host opens the receivers to every host key; those belong to flows and other programs, which may not say what
    happened at the PBX. While the key is being rotated the PBX sends either, and does not send again what was refused.
    Where neither is set anybody may: on a laptop only, in Azure the settings are invalid then. It takes the same time
    for every key that is wrong.
    """
    wanted = [key.encode() for key in (settings.pbx_webhook_key, settings.pbx_webhook_key_previous) if key]
    right = [hmac.compare_digest(key, one.encode(errors="replace")) for one in sent for key in wanted]
    if wanted and not any(right):
        raise Unauthorized("no key of the PBX's")
