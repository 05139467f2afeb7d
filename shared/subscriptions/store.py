"""Table `subscriptions`: changed in step by all instances, and remembered by each for two seconds."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared import people
from shared.errors import TOO_MANY_SUBSCRIPTIONS, ConfigError, NotFound, Refused, StorageUnavailable
from shared.storage import rows
from shared.storage.account import Storage, once
from shared.subscriptions.subscription import PARTITION, Subscription, host_of, new_secret, normalised, subscription_of
from shared.times import iso, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cryptography.fernet import MultiFernet

    from shared.bridge import Bridge
    from shared.storage.rows import Row

logger = logging.getLogger(__name__)

TABLE = "subscriptions"
MOST = 200
# A process goes on for so long without looking who has subscribed meanwhile.
STALE_SECONDS = 2.0
# Both secrets sign for so long after a new one was made.
OVERLAP_SECONDS = 24 * 3600
# Subscriptions that their subscribers have ended are shown for so long.
SHOWN_ENDED = timedelta(days=30)
_ENDED = "ended"
NO_KEY = "SUBSCRIPTION_KEYS: none of the keys opens what is stored; put the former one back"


def new_key() -> str:
    """Return a Fernet key: URL-safe base64 of 32 random bytes."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def key_id(key: str) -> str:
    """Return the name of a key that may be seen."""
    return hashlib.sha256(f"subscription key {key}".encode()).hexdigest()[:8]


class Keys:
    """Fernet keys, the newest first: that one seals, and all of them open."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.all = tuple(keys)
        self.newest = key_id(self.all[0])

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


class Subscriptions:
    """
    All subscriptions, read again every two seconds while they are asked for, and at once after a change here.

    The key of a row, its mark, is a keyed hash of what was asked for: so an equal request finds it.
    """

    def __init__(self, storage: Storage, keys: Sequence[str] = ()) -> None:
        self._storage = storage
        self._table = storage.table(TABLE)
        if not keys:
            # On a laptop: made of the account's own key, which lies beside what it seals, it protects nothing.
            digest = hashlib.sha256(people.digest(storage, "subscription key").encode()).digest()
            keys = [base64.urlsafe_b64encode(digest).decode()]
        self.keys = Keys(keys)
        self._known: dict[str, Subscription] = {}
        self._fresh_until = 0.0
        self._lock = Lock()

    def all(self) -> Sequence[Subscription]:
        """Return all subscriptions, as of at most two seconds ago."""
        with self._lock:
            # What is read now is as old as the beginning of the reading.
            began = time.monotonic()
            if began >= self._fresh_until:
                found = self._table.query_entities(f"PartitionKey eq '{PARTITION}'")
                self._known = {row["id"]: subscription_of(row, self.keys) for row in found}
                self._fresh_until = began + STALE_SECONDS
            return tuple(self._known.values())

    def forget(self) -> None:
        """Read the table again when asked next."""
        with self._lock:
            self._fresh_until = 0.0

    def get(self, id: str) -> Subscription | None:
        """Return a subscription, as of at most two seconds ago; None where there is none, or no longer."""
        self.all()
        if id not in self._known:
            self.forget()
            self.all()
        return self._known.get(id)

    def of_address(self, endpoint: str) -> tuple[list[Subscription], list[Subscription]]:
        """Return those of a callback address in any spelling, as of now; and those of any address that no key opens."""
        self.forget()
        wanted, everybody = normalised(endpoint), self.all()
        found = [one for one in everybody if one.readable and normalised(one.endpoint) == wanted]
        return found, [one for one in everybody if not one.readable]

    def make(self, wanted: Subscription, secret: str | None = None) -> Subscription:
        """
        Store a subscription unless there is an equal one; return the one that is there.

        An earlier one takes another `secret` beside its own for a day, and another name. Raises Refused where there are
        as many as there may be, and ConfigError where no key opens the equal one.
        """
        request = [normalised(wanted.endpoint), wanted.event, dict(wanted.wanted), wanted.shape]
        wanted = replace(wanted, mark=people.digest(self._storage, json.dumps(request, sort_keys=True)))
        self.forget()
        everybody = self.all()
        found = next((one for one in everybody if one.mark == wanted.mark), None)
        if found is None:
            if len(everybody) >= MOST:
                raise Refused(TOO_MANY_SUBSCRIPTIONS)
            is_made = rows.insert(self._table, wanted.row(self.keys))
            self.forget()
            # An equal one that was stored meanwhile is found now.
            return wanted if is_made else self.make(wanted, secret)
        if not found.readable:
            raise ConfigError(NO_KEY)
        if secret and secret != found.secrets[0][0]:
            self.rotate(found.id, secret)
        if wanted.name not in ("", found.name):
            self.change(found.id, lambda one: replace(one, name=wanted.name))
        return found

    def note_shown(self, id: str) -> None:
        """Note that an answer has its secret; where that fails the next answer has it too."""
        with suppress(StorageUnavailable):
            self.change(id, lambda one: replace(one, shown=True))

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
        """Change a subscription under its ETag; False where it is gone or `changed` returns None. Raises Conflict."""
        one = self.get(id)

        def columns(row: Row | None) -> dict[str, Any] | None:
            new = changed(subscription_of(row, self.keys)) if row is not None and row["id"] == id else None
            if row is None or new is None:
                return None
            return new.row(self.keys) | ({} if new.readable else {"sealed": row.get("sealed"), "key": row.get("key")})

        done = one is not None and rows.change(self._table, PARTITION, one.mark, columns) is not None
        self.forget()
        return done

    def reseal(self) -> None:
        """Seal again what is under an older key; log the signal of each that no key opens, which stays as it is."""
        for one in self.all():
            if not one.readable:
                logger.error("signal subscription_unreadable subscription=%s key=%s", one.id, one.key)
            elif one.key != self.keys.newest:
                self.change(one.id, lambda same: same)

    def described(self) -> dict[str, Any]:
        """Return how many subscriptions are under which key, by its id, and those that no key opens."""
        self.forget()
        everybody = self.all()
        counts = Counter({key_id(key): 0 for key in self.keys.all})
        counts.update(one.key for one in everybody)
        unreadable = [one.id for one in everybody if not one.readable]
        return {"newest": self.keys.newest, "keys": dict(counts), "unreadable": unreadable}

    def end(self, id: str, answer: str = "") -> bool:
        """End a subscription; False when there was none. One that its subscriber ended by an `answer` is remembered."""
        one = self.get(id)
        row = rows.get(self._table, PARTITION, one.mark) if one else None
        if one is None or row is None or row["id"] != id:
            return False
        if answer:
            shown = {"id": id, "event": one.event, "name": one.name, "host": host_of(one.endpoint), "answer": answer}
            rows.put(self._table, {"PartitionKey": _ENDED, "RowKey": id, "at": now(), **shown})
            for old in self._ended("le"):
                rows.delete(self._table, _ENDED, old["RowKey"])
        # One that has changed meanwhile is looked at again.
        is_gone = rows.delete(self._table, PARTITION, one.mark, row.etag)
        self.forget()
        return is_gone or self.end(id, answer)

    def ended(self) -> list[dict[str, Any]]:
        """Return the subscriptions that their subscribers have ended of late, the newest first."""
        columns = ("id", "event", "name", "host", "answer")
        latest = sorted(self._ended("gt"), key=lambda row: row["at"], reverse=True)
        return [{name: row[name] for name in columns} | {"ended": iso(row["at"])} for row in latest]

    def _ended(self, relation: str) -> Iterable[Any]:
        """Return the rows of subscriptions that ended since a month ago (`gt`), or before (`le`)."""
        condition = f"PartitionKey eq '{_ENDED}' and at {relation} @since"
        return self._table.query_entities(condition, parameters={"since": now() - SHOWN_ENDED})


@once
def _kept(storage: Storage, keys: tuple[str, ...]) -> Subscriptions:
    return Subscriptions(storage, keys)


def subscriptions(bridge: Bridge) -> Subscriptions:
    """Return this process's view of the subscriptions in a bridge's storage account."""
    return _kept(bridge.storage, bridge.settings.subscription_keys)
