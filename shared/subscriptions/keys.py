"""The keys that seal the secrets of subscriptions."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.storage import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azure.data.tables import TableClient
    from cryptography.fernet import MultiFernet

NO_KEY = "SUBSCRIPTION_KEYS: none of the keys opens what is stored; put the former one back"


def new_key() -> str:
    """Return a Fernet key: URL-safe base64 of 32 random bytes."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


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
        if self._given:
            return self._given
        partition, name = "key", "local"
        rows.insert(self._table, {"PartitionKey": partition, "RowKey": name, "sealed": new_key()})
        row = rows.get(self._table, partition, name)
        assert row is not None
        return (str(row["sealed"]),)

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

    @cached_property
    def _fernet(self) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(key) for key in self.all])
