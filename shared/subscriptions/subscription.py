"""One subscription: who gets which events, how, and the secrets that sign them by Standard Webhooks 1.0.0."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from shared.http import is_public, request_target
from shared.times import now
from shared.values import e164

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from shared.events.event import ReceivedEvent
    from shared.subscriptions.store import Keys

PARTITION = "subscription"
LONGEST_NAME = 100
ID_HEADER, TIME_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes of a secret
_COLUMNS = ("id", "event", "name", "shape", "created", "disabled", "shown")
_SECRET = ("capability", "endpoint", "secrets")

Shape = Literal["native", "cloudevents"]

# Logic Apps' callback addresses carry a signature and grow long.
LONGEST = 4096
_PORTS = {"https": ":443", "http": ":80"}
_PRINTABLE = re.compile(r"[!-~]+")
# Behind these a 404 means that the workflow, or its run, is gone for good.
_WORKFLOW_HOSTS = (
    ".logic.azure.com",
    ".logic.azure.us",
    ".logic.azure.cn",
    ".azure-apihub.net",
    ".azure-apim.net",
    ".api.powerplatform.com",
    ".powerautomate.com",
    ".flow.microsoft.com",
)


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
    # Newest first, each with the Unix time until which it signs; None for ever.
    secrets: tuple[tuple[str, float | None], ...] = field(repr=False)
    name: str = ""
    disabled: datetime | None = None
    # An answer had its secret.
    shown: bool = False
    # The key of its row, and the id of the key that sealed the row.
    mark: str = field(default="", repr=False, compare=False)
    key: str = field(default="none", compare=False)

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
        capability = secrets.token_hex(16)
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
    def readable(self) -> bool:
        """True if a key opens its row."""
        return bool(self.capability)

    def signed(self, id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the three headers of a delivery at a Unix time, signed with each secret that is valid then."""
        signatures = []
        for secret, until in self.secrets:
            if until is None or until > timestamp:
                signatures.append(sign(secret, id, timestamp, body))
        return {ID_HEADER: id, TIME_HEADER: str(timestamp), SIGNATURE_HEADER: " ".join(signatures)}

    def row(self, keys: Keys) -> dict[str, Any]:
        """Return its columns, the secret ones sealed."""
        columns = {name: value for name in _COLUMNS if (value := getattr(self, name)) is not None}
        columns |= {"PartitionKey": PARTITION, "RowKey": self.mark or self.id, "wanted": json.dumps(dict(self.wanted))}
        return columns | keys.seal({name: getattr(self, name) for name in _SECRET})


def subscription_of(row: Mapping[str, Any], keys: Keys) -> Subscription:
    """Return the subscription in a row."""
    opened = keys.open(row.get("sealed", "")) or {"capability": "", "endpoint": "", "secrets": ()}
    opened["secrets"] = tuple(map(tuple, opened["secrets"]))
    columns = {name: row[name] for name in (*_COLUMNS, "key") if name in row}
    return Subscription(mark=row["RowKey"], wanted=json.loads(row["wanted"]), **opened, **columns)


def public_id(capability: str) -> str:
    """Return the id of the subscription that a capability belongs to; there is no way back."""
    digest = hashlib.sha256(f"subscription {capability}".encode()).digest()
    return "sub-" + base64.b32encode(digest).decode().lower()[:20]


def new_secret() -> str:
    """Return a secret of 32 random bytes: `whsec_` and base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes of a secret; raise ValueError unless it is `whsec_` and base64 of 24 to 64 bytes."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise ValueError(f"{_PREFIX} and base64 of {_SHORTEST} to {_LONGEST} bytes is expected")
    return key


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a body that is sent under an id at a Unix time."""
    digest = hmac.new(key_of(secret), f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _is_same(number: str | None, wanted: str, region: str) -> bool:
    full = e164(wanted, region)
    return number is not None and (number == wanted or (full is not None and e164(number, region) == full))


def _begins(number: str | None, prefix: str, region: str) -> bool:
    """Return True if a number begins so, with its country code or as it is dialled at home."""
    import phonenumbers

    full, code = e164(number, region), f"+{phonenumbers.country_code_for_region(region)}"
    return full is not None and any(way.startswith(prefix) for way in (full, full[1:], full.removeprefix(code)))


TESTS: Mapping[str, Callable[[ReceivedEvent, Any, str], bool]] = {
    "direction": lambda event, wanted, _: event.data.get("direction") == wanted,
    "contact_id": lambda event, wanted, _: event.data.get("contactID") == wanted,
    "caller": lambda event, wanted, region: _is_same(event.caller, wanted, region),
    "destination": lambda event, wanted, region: _is_same(event.data.get("destination"), wanted, region),
    "prefix": lambda event, wanted, region: (
        _begins(event.caller, wanted, region) or _begins(event.data.get("destination"), wanted, region)
    ),
}


def meets(event: ReceivedEvent, wanted: Mapping[str, Any], region: str) -> bool:
    """Return True if the event meets all parts of a filter; one that lacks a field does not meet it."""
    return all(TESTS[name](event, value, region) for name, value in wanted.items())


def check_endpoint(url: str, *, allow_loopback: bool) -> None:
    """
    Raise ValueError unless events may be posted to this address: https, and no user before the host.

    `allow_loopback` accepts this machine as well, by http too. Which address a name leads to is checked when it is
    connected to.
    """
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise ValueError("an https address is expected") from None
    is_here = is_special = host == "localhost"
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        is_here, is_special = address.is_loopback and address.version == 4, not is_public(address)
    is_allowed = allow_loopback and is_here
    if parts.scheme != "https" and not (is_allowed and parts.scheme == "http"):
        raise ValueError("an https address is expected")
    if not host or "@" in parts.netloc or not _PRINTABLE.fullmatch(url) or len(url) > LONGEST:
        raise ValueError(f"an https address without user and blanks is expected, of at most {LONGEST} characters")
    if is_special and not is_allowed:
        raise ValueError("the host is not on the internet")


def is_workflow_host(url: str) -> bool:
    """Return True if Logic Apps or Power Automate listens there."""
    return (urlsplit(url).hostname or "").rstrip(".").endswith(_WORKFLOW_HOSTS)


def host_of(url: str) -> str:
    """Return the host, with its port where one is named: all of a callback address that may be shown."""
    return urlsplit(url).netloc.rpartition("@")[2]


def normalised(url: str) -> str:
    """
    Return the form in which addresses are compared: scheme and host in small letters, without the standard port.

    The rest stays byte by byte, and so does an address that cannot be read.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    host = parts.netloc.lower().removesuffix(_PORTS.get(parts.scheme, ":"))
    return f"{parts.scheme}://{host}{request_target(url)}" if host else url
