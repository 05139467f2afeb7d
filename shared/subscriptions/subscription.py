"""One subscription: who gets which event, how, and with which secrets it is signed."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from shared.subscriptions.signatures import new_secret
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.subscriptions.keys import Keys

PARTITION = "subscription"
KEY = "id-"
_ID_PREFIX, _ID_LENGTH = "sub-", 20
_CAPABILITY_BYTES = 16
LONGEST_NAME = 100
_COLUMNS = ("event", "name", "shape", "created", "disabled", "trying", "shown")
_SECRET = ("capability", "endpoint", "secrets")

Shape = Literal["native", "cloudevents"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """
    A subscriber's wish for an event.

    `id` is public. `capability` is the right to end it and to change its secret; it is secret, and so are the callback
    address and the keys that sign. All three are empty where no key opens its row.
    """

    id: str
    capability: str = field(repr=False)
    event: str
    endpoint: str = field(repr=False)
    wanted: Mapping[str, Any]
    shape: Shape
    created: datetime
    # Each with the Unix time until which it signs; None for ever.
    secrets: tuple[tuple[str, float | None], ...] = field(repr=False)
    name: str = ""
    disabled: datetime | None = None
    # It was asked for again since it was disabled.
    trying: bool = False
    # An answer had its secret.
    shown: bool = False

    @classmethod
    def new(
        cls,
        *,
        event: str,
        endpoint: str,
        wanted: Mapping[str, Any] | None = None,
        shape: Shape = "native",
        secret: str | None = None,
        name: str = "",
    ) -> Self:
        """Return a subscription as of now, with a secret of its own where none is given."""
        capability = secrets.token_hex(_CAPABILITY_BYTES)
        return cls(
            id=public_id(capability),
            capability=capability,
            event=event,
            endpoint=endpoint,
            wanted=wanted or {},
            shape=shape,
            created=now(),
            secrets=((secret or new_secret(), None),),
            name=name,
        )

    @property
    def active(self) -> bool:
        """True if new events are for it."""
        return self.disabled is None or self.trying

    @property
    def readable(self) -> bool:
        """True if a key opens its row."""
        return bool(self.capability)

    def signing(self, moment: float) -> tuple[str, ...]:
        """Return the secrets that sign at a Unix time, the newest first."""
        signing = []
        for secret, until in self.secrets:
            if until is None or until > moment:
                signing.append(secret)
        return tuple(signing)

    def row(self, keys: Keys) -> dict[str, Any]:
        """Return its columns, the secret ones sealed."""
        columns = {name: value for name in _COLUMNS if (value := getattr(self, name)) is not None}
        columns |= {"PartitionKey": PARTITION, "RowKey": KEY + self.id, "wanted": json.dumps(dict(self.wanted))}
        return columns | keys.seal({name: getattr(self, name) for name in _SECRET})


def subscription_of(row: Mapping[str, Any], keys: Keys) -> Subscription:
    """Return the subscription in a row."""
    opened = keys.open(row.get("sealed", "")) or {"capability": "", "endpoint": "", "secrets": ()}
    return Subscription(
        id=row["RowKey"].removeprefix(KEY),
        wanted=json.loads(row["wanted"]),
        capability=opened["capability"],
        endpoint=opened["endpoint"],
        secrets=tuple((secret, until) for secret, until in opened["secrets"]),
        **{name: row[name] for name in _COLUMNS if name in row},
    )


def public_id(capability: str) -> str:
    """Return the id of the subscription that a capability belongs to; there is no way back."""
    digest = hashlib.sha256(f"subscription {capability}".encode()).digest()
    return _ID_PREFIX + base64.b32encode(digest).decode().lower()[:_ID_LENGTH]
