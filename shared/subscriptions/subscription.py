"""One subscription: who is told of which event, how, and with which secrets it is signed."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from shared.times import iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

PARTITION = "subscription"
KEY = "id-"
_ID_BYTES = 16

Shape = Literal["native", "cloudevents"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """Who is told of an event: the callback address is a secret, and so are those that sign."""

    id: str
    event: str
    endpoint: str = field(repr=False)
    wanted: Mapping[str, Any]
    shape: Shape
    created: datetime
    # Each with the time, in Unix seconds, until which it signs; None for ever.
    secrets: tuple[tuple[str, float | None], ...] = field(repr=False)
    disabled: datetime | None = None
    # Somebody asked for it again since it was disabled.
    trying: bool = False

    @property
    def active(self) -> bool:
        """Whether events are meant for it."""
        return self.disabled is None or self.trying

    def signing(self, moment: float) -> tuple[str, ...]:
        """The secrets that sign at a Unix time, the newest first."""
        return tuple(secret for secret, until in self.secrets if until is None or until > moment)

    @property
    def fingerprint(self) -> str:
        """What two subscriptions that are the same share: a hash of address, event, filter and shape."""
        told = json.dumps([self.endpoint, self.event, dict(self.wanted), self.shape], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def row(self) -> dict[str, Any]:
        """Its columns in the table."""
        return {
            "PartitionKey": PARTITION,
            "RowKey": KEY + self.id,
            "event": self.event,
            "endpoint": self.endpoint,
            "wanted": json.dumps(dict(self.wanted)),
            "shape": self.shape,
            "created": iso(self.created),
            "secrets": json.dumps(self.secrets),
            "disabled": iso(self.disabled) if self.disabled else "",
            "trying": self.trying,
        }


def subscription_of(row: Mapping[str, Any]) -> Subscription:
    """The subscription in a row of the table."""
    return Subscription(
        id=row["RowKey"].removeprefix(KEY),
        event=row["event"],
        endpoint=row["endpoint"],
        wanted=json.loads(row["wanted"]),
        shape=row["shape"],
        created=parse_time(row["created"]),
        secrets=tuple((secret, until) for secret, until in json.loads(row["secrets"])),
        disabled=parse_time(row["disabled"]) if row.get("disabled") else None,
        trying=bool(row.get("trying")),
    )


def new_id() -> str:
    """128 random bits, which are the right to end the subscription."""
    return secrets.token_hex(_ID_BYTES)
