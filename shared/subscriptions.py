"""
Table `subscriptions`: subscribers, their events and the secrets that sign them by Standard Webhooks 1.0.0.

Each instance remembers the table for two seconds. Nothing is posted here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from shared import people
from shared.bridge import Bridge
from shared.errors import TOO_MANY_SUBSCRIPTIONS, ConfigError, NotFound, Refused
from shared.events.event import ReceivedEvent
from shared.http import request_target
from shared.storage import rows
from shared.storage.account import Storage, once
from shared.storage.rows import Row
from shared.times import iso, now
from shared.values import e164

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

logger = logging.getLogger(__name__)

TABLE = "subscriptions"
PARTITION, _ENDED = "subscription", "ended"
MOST = 200
# Seconds for which a process remembers the table.
STALE_SECONDS = 2.0
# Seconds for which the old secret signs beside a new one.
OVERLAP_SECONDS = 24 * 3600
# The time for which a subscription that its subscriber has ended is shown.
SHOWN_ENDED = timedelta(days=30)
NO_KEY = "SUBSCRIPTION_KEYS: no key opens the stored subscription; add the previous key again"
ID_HEADER, TIME_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes of a secret
_COLUMNS = ("id", "event", "name", "shape", "created", "disabled", "shown")
_SECRET = ("capability", "endpoint", "secrets")
_PORTS = {"https": ":443", "http": ":80"}
# At these hosts a 404 means that the workflow, or its run, is gone for good.
_LOGIC_APPS = (".logic.azure.com", ".logic.azure.us", ".logic.azure.cn")
_FLOWS = (".azure-apihub.net", ".azure-apim.net", ".api.powerplatform.com", ".powerautomate.com", ".flow.microsoft.com")


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """
    A subscription to an event.

    `id` is public. `capability` lets its holder end the subscription and change its secret. It is secret, as are the
    callback address and the secrets that sign. All three are empty if no key opens the row.
    """

    id: str
    capability: str = field(repr=False)
    event: str
    endpoint: str = field(repr=False)
    wanted: Mapping[str, Any] = field(default_factory=dict)
    shape: Literal["native", "cloudevents"] = "native"
    created: datetime = field(default_factory=now)
    # Newest first, each with the Unix time until which it signs, or None.
    secrets: tuple[tuple[str, float | None], ...] = field(repr=False)
    name: str = ""
    disabled: datetime | None = None
    # True once an answer has shown its secret.
    shown: bool = False
    # The key of its row, and the id of the key that sealed the row.
    mark: str = field(default="", repr=False, compare=False)
    key: str = field(default="none", compare=False)

    @classmethod
    def new(cls, *, secret: str | None = None, **request: Any) -> Self:
        """Return a new subscription for a request, with a generated secret unless one is given."""
        capability = secrets.token_hex(16)
        signing = ((secret or new_secret(), None),)
        return cls(id=public_id(capability), capability=capability, secrets=signing, **request)

    @property
    def readable(self) -> bool:
        """True if a key opens its row."""
        return bool(self.capability)

    def signed(self, id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the three headers of a delivery at a Unix time, signed with each secret that is valid then."""
        valid = [secret for secret, until in self.secrets if until is None or until > timestamp]
        signatures = " ".join(sign(secret, id, timestamp, body) for secret in valid)
        return {ID_HEADER: id, TIME_HEADER: str(timestamp), SIGNATURE_HEADER: signatures}


def public_id(capability: str) -> str:
    """Return the id of a capability's subscription; it cannot be reversed."""
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
    """Return True if a number begins with a prefix, with its country code or as dialled at home."""
    import phonenumbers

    full, code = e164(number, region), f"+{phonenumbers.country_code_for_region(region)}"
    return full is not None and any(text.startswith(prefix) for text in (full, full[1:], full.removeprefix(code)))


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
    """Return True if the event meets all parts of a filter; an event without the field does not."""
    return all(TESTS[name](event, value, region) for name, value in wanted.items())


def is_workflow_host(url: str) -> bool:
    """Return True if Logic Apps or Power Automate serves a URL."""
    return (urlsplit(url).hostname or "").rstrip(".").endswith(_LOGIC_APPS + _FLOWS)


def host_of(url: str) -> str:
    """Return the host with its port, if any: the part of a callback address that may be shown."""
    return urlsplit(url).netloc.rpartition("@")[2]


def normalised(url: str) -> str:
    """
    Return the form in which addresses are compared: scheme and host in small letters, without the standard port.

    The rest stays byte by byte, as does an address that cannot be read.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    host = parts.netloc.lower().removesuffix(_PORTS.get(parts.scheme, ":"))
    return f"{parts.scheme}://{host}{request_target(url)}" if host else url


def key_id(key: str) -> str:
    """Return the name of a key, which is no secret."""
    return hashlib.sha256(f"subscription key {key}".encode()).hexdigest()[:8]


class Subscriptions:
    """
    All subscriptions, read again after two seconds, and at once after a change here.

    The key of a row, its mark, is a keyed hash of the request, so that an equal request finds it.
    """

    def __init__(self, storage: Storage, keys: Sequence[str] = ()) -> None:
        self._storage = storage
        self._table = storage.table(TABLE)
        if not keys:
            # On a laptop. It protects nothing: the key that it is made of is stored beside the sealed rows.
            digest = hashlib.sha256(people.digest(storage, "subscription key").encode()).digest()
            keys = [base64.urlsafe_b64encode(digest).decode()]
        # The newest key seals, and all keys open.
        self._keys, self._newest = tuple(keys), key_id(keys[0])
        self._known: dict[str, Subscription] = {}
        self._fresh_until = 0.0
        self._lock = Lock()

    def all(self) -> Sequence[Subscription]:
        """Return all subscriptions, as of at most two seconds ago."""
        with self._lock:
            # The view is as old as the beginning of its reading.
            began = time.monotonic()
            if began >= self._fresh_until:
                found = self._table.query_entities(f"PartitionKey eq '{PARTITION}'")
                self._known = {row["id"]: self._read(row) for row in found}
                self._fresh_until = began + STALE_SECONDS
            return tuple(self._known.values())

    def forget(self) -> None:
        """Read the table again when asked next."""
        with self._lock:
            self._fresh_until = 0.0

    def get(self, id: str) -> Subscription | None:
        """Return a subscription, as of at most two seconds ago; None if there is none."""
        self.all()
        if id not in self._known:
            self.forget()
            self.all()
        return self._known.get(id)

    def of_address(self, endpoint: str) -> tuple[list[Subscription], list[Subscription]]:
        """Return the subscriptions of a callback address in any spelling, as of now, and all that no key opens."""
        self.forget()
        wanted, known = normalised(endpoint), self.all()
        found = [one for one in known if one.readable and normalised(one.endpoint) == wanted]
        return found, [one for one in known if not one.readable]

    def make(self, wanted: Subscription, secret: str | None = None) -> Subscription:
        """
        Store a subscription and return it, or return the equal one that exists.

        The existing one takes a new `secret`, beside its own for a day, and a new name. Raises Refused at the limit of
        subscriptions, and ConfigError if no key opens the existing one.
        """
        request = [normalised(wanted.endpoint), wanted.event, dict(wanted.wanted), wanted.shape]
        wanted = replace(wanted, mark=people.digest(self._storage, json.dumps(request, sort_keys=True)))
        self.forget()
        known = self.all()
        found = next((one for one in known if one.mark == wanted.mark), None)
        if found is None:
            if len(known) >= MOST:
                raise Refused(TOO_MANY_SUBSCRIPTIONS)
            is_made = rows.insert(self._table, self._columns(wanted))
            self.forget()
            # If an equal one was stored meanwhile, it is found now.
            return wanted if is_made else self.make(wanted, secret)
        if not found.readable:
            raise ConfigError(NO_KEY)
        if secret and secret != found.secrets[0][0]:
            self.rotate(found.id, secret)
        if wanted.name not in ("", found.name):
            self.change(found.id, lambda one: replace(one, name=wanted.name))
        return self.get(found.id) or found

    def rotate(self, id: str, secret: str | None = None) -> str:
        """Give a subscription a new secret; the old one signs beside it for a day. Raises NotFound."""
        fresh = secret or new_secret()
        limit = time.time() + OVERLAP_SECONDS

        def renewed(one: Subscription) -> Subscription:
            if not one.readable:
                raise ConfigError(NO_KEY)
            kept = tuple((old, min(until or limit, limit)) for old, until in one.secrets if old != fresh)
            return replace(one, secrets=((fresh, None), *kept[:1]))

        if not self.change(id, renewed):
            raise NotFound("no such subscription")
        return fresh

    def change(self, id: str, changed: Callable[[Subscription], Subscription | None]) -> bool:
        """Change a subscription; return False if it is gone or `changed` returns None. Raises Conflict."""
        subscription = self.get(id)

        def columns(row: Row | None) -> dict[str, Any] | None:
            new = changed(self._read(row)) if row is not None and row["id"] == id else None
            if row is None or new is None:
                return None
            return self._columns(new) | ({} if new.readable else {"sealed": row.get("sealed"), "key": row.get("key")})

        done = subscription is not None and rows.change(self._table, PARTITION, subscription.mark, columns) is not None
        self.forget()
        return done

    def reseal(self) -> None:
        """Seal again the rows under an older key; log a signal for each row that no key opens."""
        for one in self.all():
            if not one.readable:
                logger.error("signal subscription_unreadable subscription=%s key=%s", one.id, one.key)
            elif one.key != self._newest:
                self.change(one.id, lambda same: same)

    def described(self) -> dict[str, Any]:
        """Return the number of subscriptions under each key, by its id, and the subscriptions that no key opens."""
        self.forget()
        known = self.all()
        counts = Counter({key_id(key): 0 for key in self._keys})
        counts.update(one.key for one in known)
        unreadable = [one.id for one in known if not one.readable]
        return {"newest": self._newest, "keys": dict(counts), "unreadable": unreadable}

    def end(self, id: str, answer: str = "") -> bool:
        """End a subscription; return False if there is none. An end by a subscriber's `answer` is remembered."""
        subscription = self.get(id)
        row = rows.get(self._table, PARTITION, subscription.mark) if subscription else None
        if subscription is None or row is None or row["id"] != id:
            return False
        if answer:
            row_of_end = {"PartitionKey": _ENDED, "RowKey": id, "at": now(), "id": id, "answer": answer}
            shown = {"event": subscription.event, "name": subscription.name, "host": host_of(subscription.endpoint)}
            rows.put(self._table, row_of_end | shown)
            for old in self._ended("le"):
                rows.delete(self._table, _ENDED, old["RowKey"])
        # If the row has changed meanwhile, it is read again.
        is_gone = rows.delete(self._table, PARTITION, subscription.mark, row.etag)
        self.forget()
        return is_gone or self.end(id, answer)

    def ended(self) -> list[dict[str, Any]]:
        """Return the subscriptions that their subscribers ended in the last month, the newest first."""
        columns = ("id", "event", "name", "host", "answer")
        latest = sorted(self._ended("gt"), key=lambda row: row["at"], reverse=True)
        return [{name: row[name] for name in columns} | {"ended": iso(row["at"])} for row in latest]

    def _ended(self, relation: str) -> Iterable[Any]:
        """Return the rows of subscriptions that ended since a month ago (`gt`), or before (`le`)."""
        condition = f"PartitionKey eq '{_ENDED}' and at {relation} @since"
        return self._table.query_entities(condition, parameters={"since": now() - SHOWN_ENDED})

    def _columns(self, subscription: Subscription) -> dict[str, Any]:
        """Return the columns of a subscription's row, the secret ones sealed."""
        columns = {name: value for name in _COLUMNS if (value := getattr(subscription, name)) is not None}
        columns |= {"PartitionKey": PARTITION, "RowKey": subscription.mark}
        columns["wanted"] = json.dumps(dict(subscription.wanted))
        secret = json.dumps({name: getattr(subscription, name) for name in _SECRET}).encode()
        return columns | {"sealed": self._fernet.encrypt(secret).decode(), "key": self._newest}

    def _read(self, row: Mapping[str, Any]) -> Subscription:
        """Return the subscription in a row, without its secrets if no key opens it."""
        from cryptography.fernet import InvalidToken

        try:
            opened = json.loads(self._fernet.decrypt(row.get("sealed", "")))
        except InvalidToken:
            opened = {"capability": "", "endpoint": "", "secrets": ()}
        opened["secrets"] = tuple(map(tuple, opened["secrets"]))
        columns = {name: row[name] for name in (*_COLUMNS, "key") if name in row}
        return Subscription(mark=row["RowKey"], wanted=json.loads(row["wanted"]), **opened, **columns)

    @cached_property
    def _fernet(self) -> MultiFernet:
        # Loaded with the first subscription: few functions need it in their cold start.
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(key) for key in self._keys])


@once
def _kept(storage: Storage, keys: tuple[str, ...]) -> Subscriptions:
    return Subscriptions(storage, keys)


def subscriptions(bridge: Bridge) -> Subscriptions:
    """Return this process's view of the subscriptions in a bridge's storage account."""
    return _kept(bridge.storage, bridge.settings.subscription_keys)
