"""Table `subscriptions`: changed in step by all instances, and remembered by each for two seconds."""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError, Conflict, NotFound, StorageUnavailable, TooManySubscriptions
from shared.once import once
from shared.storage import rows as single_rows
from shared.subscriptions.endpoints import host_of, normalised
from shared.subscriptions.keys import NO_KEY, Keys, key_id
from shared.subscriptions.signatures import new_secret
from shared.subscriptions.subscription import FINGERPRINT, KEY, PARTITION, Subscription, subscription_of
from shared.times import iso, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shared.bridge import Bridge
    from shared.storage.account import Storage
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
_VERSION = "version"
_TRIES = 16


class Subscriptions:
    """All subscriptions, read again every two seconds while they are asked for, and at once after a change here."""

    def __init__(self, storage: Storage, keys: Sequence[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._table = storage.table(TABLE)
        self.keys = Keys(self._table, keys)
        self._clock = clock
        self._known: dict[str, Subscription] = {}
        self._reported: set[str] = set()
        self.stale = False  # a row was under an older key when they were read last
        self._fresh_until = -1.0
        self._changes = 0
        self._lock = Lock()

    def all(self) -> Iterable[Subscription]:
        """Return all subscriptions, as of at most two seconds ago."""
        return tuple(self._all().values())

    def get(self, id: str) -> Subscription | None:
        """Return a subscription, as of at most two seconds ago; None where there is none, or no longer."""
        return self._all().get(id) or self._look(id)

    def make(self, wanted: Subscription, secret: str | None = None) -> tuple[Subscription, bool]:
        """
        Store a subscription unless there is an equal one; return the one that is there, and whether it is new.

        An earlier one that was disabled works again, takes another `secret` beside its own for a day, and another name.
        Raises TooManySubscriptions, and Conflict when others kept changing them.
        """
        name = FINGERPRINT + wanted.fingerprint(self.keys)
        for _ in range(_TRIES):
            version, rows = self._rows()
            if name in rows:
                if found := self._again(rows[name]["id"], secret, wanted.name):
                    return found, False
                continue  # it was ended meanwhile
            if sum(key.startswith(KEY) for key in rows) >= MOST:
                raise TooManySubscriptions(f"there are {MOST} subscriptions")
            marker = {"PartitionKey": PARTITION, "RowKey": name, "id": wanted.id}
            if self._commit(version, [("create", wanted.row(self.keys)), ("create", marker)]):
                return wanted, True
        raise Conflict("subscriptions kept changing")

    def end(self, id: str, answer: str = "") -> bool:
        """End a subscription; False when there was none. One that its subscriber ended by an `answer` is remembered."""
        if answer and (one := self._look(id)):
            self._remember_end(one, answer)
        for _ in range(_TRIES):
            version, rows = self._rows()
            if KEY + id not in rows:
                return False
            # Also where its row cannot be read.
            keys = [key for key, row in rows.items() if key == KEY + id or row.get("id") == id]
            if self._commit(version, [("delete", {"PartitionKey": PARTITION, "RowKey": key}) for key in keys]):
                return True
        raise Conflict("subscriptions kept changing")

    def ended(self) -> list[dict[str, Any]]:
        """Return the subscriptions that their subscribers have ended of late, the newest first."""
        found = self._table.query_entities(
            f"PartitionKey eq '{_ENDED}' and at gt @since", parameters={"since": _since()}
        )
        columns = ("id", "event", "name", "host", "answer")
        latest = sorted(found, key=lambda row: row["at"], reverse=True)
        return [{name: row[name] for name in columns} | {"ended": iso(row["at"])} for row in latest]

    def of_address(self, endpoint: str) -> tuple[list[Subscription], list[Subscription]]:
        """Return those of a callback address in any spelling, as of now; and those of any address that no key opens."""
        self.forget()
        wanted, everybody = normalised(endpoint), self.all()
        found = [one for one in everybody if one.readable and normalised(one.endpoint) == wanted]
        return found, [one for one in everybody if not one.readable]

    def note_shown(self, id: str) -> None:
        """Note that an answer has its secret; where that fails the next answer has it too."""
        with suppress(StorageUnavailable):
            single_rows.update(self._table, {"PartitionKey": PARTITION, "RowKey": KEY + id, "shown": True})
        self.forget()

    def rotate(self, id: str, secret: str | None = None) -> str:
        """Give a subscription a new secret; the old one signs beside it for a day. Raises NotFound."""
        fresh = secret or new_secret()
        limit = time.time() + OVERLAP_SECONDS

        def renewed(one: Subscription) -> Subscription:
            if not one.readable:
                raise ConfigError(NO_KEY)
            kept = tuple((old, min(until or limit, limit)) for old, until in one.secrets if old != fresh)
            return replace(one, secrets=((fresh, None), *kept[:1]))

        if self.change(id, renewed) is None:
            raise NotFound("no such subscription")
        return fresh

    def change(self, id: str, changed: Callable[[Subscription], Subscription | None]) -> Subscription | None:
        """
        Change a subscription under its ETag; None where it is gone or `changed` returns None. Raises Conflict.
        """
        new: Subscription | None = None

        def columns(row: Row | None) -> dict[str, Any] | None:
            nonlocal new
            if row is None or (new := changed(subscription_of(row, self.keys))) is None:
                return None
            kept = () if new.readable else ("sealed", "key")
            return new.row(self.keys) | {name: row[name] for name in kept if name in row}

        if single_rows.change(self._table, PARTITION, KEY + id, columns) is None:
            return None
        self.forget()
        return new

    def reseal(self) -> None:
        """Seal again what is under an older key; a row that no key opens stays as it is. Harmless twice."""
        self._all()
        # The key of the hashes may be the only one left under an older one.
        self.keys.reseal()
        if not self.stale:
            return
        for row in self._sealed():
            one = subscription_of(row, self.keys)
            if one.readable and row["key"] != self.keys.newest:
                single_rows.swap(self._table, one.row(self.keys), row.metadata["etag"])
        self.forget()

    def described(self) -> dict[str, Any]:
        """Return how many rows are under which key, by its id, and the subscriptions that no key opens."""
        hashing = self.keys.hashing_row()
        rows = [*self._sealed(), *([hashing] if hashing else [])]
        counts = Counter({key_id(key): 0 for key in self.keys.all})
        counts.update(row["key"] for row in rows)
        unreadable = [row["RowKey"].removeprefix(KEY) for row in rows if self.keys.open(row["sealed"]) is None]
        return {"newest": self.keys.newest, "keys": dict(counts), "unreadable": unreadable}

    def forget(self) -> None:
        """Read the table again when asked next."""
        self._changes += 1
        self._fresh_until = -1.0

    def _again(self, id: str, secret: str | None, name: str) -> Subscription | None:
        found = self._look(id)
        if found is None:
            return None
        if not found.readable:
            raise ConfigError(NO_KEY)
        if secret and secret != found.secrets[0][0]:
            self.rotate(id, secret)
        if found.disabled or name not in ("", found.name):
            trying = found.disabled is not None
            self.change(id, lambda one: replace(one, trying=trying and one.disabled is not None, name=name or one.name))
        return found

    def _remember_end(self, one: Subscription, answer: str) -> None:
        old = self._table.query_entities(f"PartitionKey eq '{_ENDED}' and at le @since", parameters={"since": _since()})
        for row in old:
            single_rows.delete(self._table, _ENDED, row["RowKey"])
        shown = {"id": one.id, "event": one.event, "name": one.name, "host": host_of(one.endpoint), "answer": answer}
        single_rows.put(self._table, {"PartitionKey": _ENDED, "RowKey": one.id, "at": now(), **shown})

    def _all(self) -> dict[str, Subscription]:
        with self._lock:
            if self._clock() >= self._fresh_until:
                # What is read now is as old as the beginning of the reading.
                began, changes = self._clock(), self._changes
                rows = self._sealed()
                self.stale = any(row["key"] != self.keys.newest for row in rows)
                self._known = {(one := self._read(row)).id: one for row in rows}
                self._fresh_until = began + STALE_SECONDS if changes == self._changes else -1.0
            return self._known

    def _look(self, id: str) -> Subscription | None:
        return self._read(row) if (row := single_rows.get(self._table, PARTITION, KEY + id)) else None

    def _read(self, row: Any) -> Subscription:
        one = subscription_of(row, self.keys)
        if not one.readable and one.id not in self._reported:
            self._reported.add(one.id)
            logger.error("signal subscription_unreadable subscription=%s key=%s", one.id, row.get("key"))
        return one

    def _sealed(self) -> list[Any]:
        condition = f"PartitionKey eq '{PARTITION}' and RowKey ge '{KEY}' and RowKey lt '{KEY}~'"
        found = list(self._table.query_entities(condition))
        for row in found:
            # One that nobody sealed is as one that no key opens: it stops no other.
            row.update({"sealed": "", "key": "none", **row})
        return found

    def _rows(self) -> tuple[Any, dict[str, Any]]:
        """Return the row that every change of their number passes, and all others."""
        rows = {row["RowKey"]: row for row in self._table.query_entities(f"PartitionKey eq '{PARTITION}'")}
        return rows.pop(_VERSION, None), rows

    def _commit(self, version: Any, changes: list[Any]) -> bool:
        """Make these changes together if nobody has made others since the version was read."""
        from azure.core import MatchConditions
        from azure.core.exceptions import HttpResponseError

        passed = {"PartitionKey": PARTITION, "RowKey": _VERSION, "turn": secrets.token_hex(8)}
        turn: Any = ("create", passed)
        if version:
            etag = version.metadata["etag"]
            turn = ("update", passed, {"etag": etag, "match_condition": MatchConditions.IfNotModified})
        try:
            single_rows.transact(self._table, [turn, *changes])
        except HttpResponseError as error:
            if error.status_code not in single_rows.LOST:
                raise
            return False
        self.forget()
        return True


def subscriptions(bridge: Bridge) -> Subscriptions:
    """Return this process's view of the subscriptions in a bridge's storage account."""
    return _kept(bridge.storage, bridge.settings.subscription_keys)


@once
def _kept(storage: Storage, keys: tuple[str, ...]) -> Subscriptions:
    return Subscriptions(storage, keys)


def _since() -> Any:
    return now() - SHOWN_ENDED
