"""The keys that seal the secrets of subscriptions, and the keyed hash by which equal requests are found."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError
from shared.storage import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azure.data.tables import TableClient
    from cryptography.fernet import MultiFernet

PARTITION = "key"
_LOCAL, _FINGERPRINTS = "local", "fingerprints"
_BYTES = 32
NO_KEY = "SUBSCRIPTION_KEYS: none of the keys opens what is stored; put the former one back"


def new_key() -> str:
    """Return a Fernet key: URL-safe base64 of 32 random bytes."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_BYTES)).decode()


def key_id(key: str) -> str:
    """Return the name of a key that may be seen."""
    return hashlib.sha256(f"subscription key {key}".encode()).hexdigest()[:8]


class Keys:
    """
    Fernet keys, the newest first: that one seals, and all of them open.

    Without any, as on a laptop, one is made and kept in the table itself, where it protects nothing.
    """

    def __init__(self, table: TableClient, given: Sequence[str]) -> None:
        self._table = table
        self._given = tuple(given)

    @cached_property
    def all(self) -> tuple[str, ...]:
        """The keys."""
        return self._given or (str(self._kept(_LOCAL, {"sealed": new_key()})["sealed"]),)

    @property
    def newest(self) -> str:
        """The id of the key that seals."""
        return key_id(self.all[0])

    def seal(self, value: Any) -> dict[str, str]:
        """Return the columns that keep a JSON value: `sealed`, and the id of the key."""
        return {"sealed": self._fernet.encrypt(json.dumps(value).encode()).decode(), "key": self.newest}

    def open(self, sealed: str) -> Any:
        """Return the value again; None where none of the keys opens it."""
        # Loaded with the first subscription: few functions need it in their cold start.
        from cryptography.fernet import InvalidToken

        try:
            return json.loads(self._fernet.decrypt(sealed))
        except InvalidToken:
            return None

    def fingerprint(self, value: Any) -> str:
        """Return a keyed hash of a JSON value; its key outlives those that seal."""
        text = json.dumps(value, sort_keys=True)
        return hmac.new(self._hashing, text.encode(), hashlib.sha256).hexdigest()

    def hashing_row(self) -> rows.Row | None:
        """Return the row with the sealed key of the hashes; None before the first hash."""
        return rows.get(self._table, PARTITION, _FINGERPRINTS)

    def reseal(self) -> None:
        """Seal the key of the hashes by the newest key."""
        row = self.hashing_row()
        if row is not None and row["key"] != self.newest and (value := self.open(row["sealed"])) is not None:
            rows.swap(self._table, {**row, **self.seal(value)}, row.etag)

    @cached_property
    def _fernet(self) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(key) for key in self.all])

    @cached_property
    def _hashing(self) -> bytes:
        fresh = base64.b64encode(secrets.token_bytes(_BYTES)).decode()
        key = self.open(self._kept(_FINGERPRINTS, self.seal(fresh))["sealed"])
        if key is None:
            raise ConfigError(NO_KEY)
        return base64.b64decode(key)

    def _kept(self, name: str, fresh: dict[str, str]) -> rows.Row:
        """Return the row of this name; the first to ask makes it."""
        found = rows.get(self._table, PARTITION, name)
        if found is None:
            rows.insert(self._table, {"PartitionKey": PARTITION, "RowKey": name, **fresh})
            found = rows.get(self._table, PARTITION, name)
        assert found is not None
        return found
