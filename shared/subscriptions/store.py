"""Table `subscriptions`: who gets events, changed in step by all instances and remembered for seconds."""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError, Conflict, NotFound, StorageUnavailable, TooManySubscriptions
from shared.once import once
from shared.storage import rows as single_rows
from shared.subscriptions.endpoints import normalised
from shared.subscriptions.former import is_former, upgraded
from shared.subscriptions.keys import NO_KEY, Keys
from shared.subscriptions.signatures import new_secret
from shared.subscriptions.subscription import FINGERPRINT, KEY, PARTITION, Subscription, subscription_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from azure.data.tables import TableClient

    from shared.bridge import Bridge
    from shared.storage.account import Storage
    from shared.storage.rows import Row

logger = logging.getLogger(__name__)

TABLE = "subscriptions"
MOST = 200
# How long a process may go on without looking who has subscribed meanwhile.
STALE_SECONDS = 2.0
# Both secrets sign for so long after a new one was made.
OVERLAP_SECONDS = 24 * 3600
_VERSION = "version"
_TRIES = 16


class Subscriptions:
    """All subscriptions; a process reads them again every two seconds while it asks, and at once when it made one."""

    def __init__(self, storage: Storage, keys: Sequence[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self.keys = Keys(storage.table(TABLE), keys)
        self._clock = clock
        self._known: dict[str, Subscription] = {}
        self._reported: set[str] = set()
        self.stale = False  # a row was under an older key when they were read last
        self._fresh_until = -1.0
        self._changes = 0
        self._lock = Lock()

    def all(self) -> Iterable[Subscription]:
        """Everyone, as of at most two seconds ago."""
        return tuple(self._all().values())

    def get(self, id: str) -> Subscription | None:
        """The subscription with this id, as of at most two seconds ago; None when there is none, or no longer."""
        return self._all().get(id) or self._look(id)

    def make(self, wanted: Subscription, secret: str | None = None) -> tuple[Subscription, bool]:
        """
        The subscription that is asked for, and whether it is new: a request like an earlier one finds that again.

        An earlier one that was disabled works again, and one that comes with another `secret` takes that beside its
        own for a day. Raises TooManySubscriptions, and Conflict when others kept changing them.
        """
        for _ in range(_TRIES):
            version, rows = self._rows()
            if any(map(is_former, rows.values())):
                self._upgrade()
                continue
            name = FINGERPRINT + wanted.fingerprint(self.keys)
            fingerprint = rows.get(name)
            if fingerprint is not None:
                found = self._again(fingerprint["id"], secret)
                if found is None:
                    continue  # it was ended meanwhile
                return found, False
            if sum(key.startswith(KEY) for key in rows) >= MOST:
                raise TooManySubscriptions(f"there are {MOST} subscriptions")
            marker = {"PartitionKey": PARTITION, "RowKey": name, "id": wanted.id}
            if self._commit(version, [("create", wanted.row(self.keys)), ("create", marker)]):
                return wanted, True
        raise Conflict("subscriptions kept changing")

    def end(self, id: str) -> bool:
        """End a subscription; False when there was none."""
        for _ in range(_TRIES):
            version, rows = self._rows()
            if KEY + id not in rows:
                return False
            # Also where its row cannot be read.
            keys = [key for key, row in rows.items() if key == KEY + id or row.get("id") == id]
            if self._commit(version, [("delete", {"PartitionKey": PARTITION, "RowKey": key}) for key in keys]):
                return True
        raise Conflict("subscriptions kept changing")

    def of_address(self, endpoint: str) -> tuple[list[Subscription], list[Subscription]]:
        """Those of a callback address in any spelling, as of now; and those that cannot be read, of any address."""
        self.forget()
        wanted, everybody = normalised(endpoint), self.all()
        found = [one for one in everybody if one.readable and normalised(one.endpoint) == wanted]
        return found, [one for one in everybody if not one.readable]

    def note_shown(self, id: str) -> None:
        """An answer holds its secret now: no other will. Where that cannot be written, the next answer shows it too."""
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
        Change a subscription under its ETag; the changed one, or None when it is gone or `changed` left it alone.

        Raises Conflict when others kept changing it.
        """
        new: Subscription | None = None

        def columns(row: Row | None) -> dict[str, Any] | None:
            nonlocal new
            new = changed(subscription_of(row, self.keys)) if row is not None else None
            if row is None or new is None:
                return None
            return new.row(self.keys) | ({} if new.readable else {name: row[name] for name in ("sealed", "key")})

        if single_rows.change(self._table, PARTITION, KEY + id, columns) is None:
            return None
        self.forget()
        return new

    def forget(self) -> None:
        """Read the table again when asked next."""
        self._changes += 1
        self._fresh_until = -1.0

    def _again(self, id: str, secret: str | None) -> Subscription | None:
        found = self._look(id)
        if found is not None and not found.readable:
            raise ConfigError(NO_KEY)
        if found is not None and secret and secret != found.secrets[0][0]:
            self.rotate(id, secret)
        if found is not None and found.disabled:
            self.change(id, lambda one: replace(one, trying=True) if one.disabled else None)
        return found

    @property
    def _table(self) -> TableClient:
        return self._storage.table(TABLE)

    def _all(self) -> dict[str, Subscription]:
        with self._lock:
            if self._clock() >= self._fresh_until:
                # What is read now is as old as the beginning of the reading.
                began, changes = self._clock(), self._changes
                condition = f"PartitionKey eq '{PARTITION}' and RowKey ge '{KEY}' and RowKey lt '{KEY}~'"
                rows = list(self._table.query_entities(condition))
                if any(map(is_former, rows)):
                    self._upgrade()
                    changes, rows = self._changes, list(self._table.query_entities(condition))
                self.stale = any(row["key"] != self.keys.newest for row in rows)
                self._known = {(one := self._read(row)).id: one for row in rows}
                self._fresh_until = began + STALE_SECONDS if changes == self._changes else -1.0
            return self._known

    def _look(self, id: str) -> Subscription | None:
        row = single_rows.get(self._table, PARTITION, KEY + id)
        return self._read(row) if row is not None else None

    def _read(self, row: Any) -> Subscription:
        one = subscription_of(row, self.keys)
        if not one.readable and one.id not in self._reported:
            self._reported.add(one.id)
            logger.error("signal subscription_unreadable subscription=%s key=%s", one.id, row["key"])
        return one

    def _upgrade(self) -> None:
        for key in [key for key, row in self._rows()[1].items() if is_former(row)]:
            version, rows = self._rows()
            if key in rows:
                self._commit(version, upgraded(rows[key], rows, self.keys))

    def _rows(self) -> tuple[Any, dict[str, Any]]:
        """The row that every change of their number passes, and all others."""
        rows = {row["RowKey"]: row for row in self._table.query_entities(f"PartitionKey eq '{PARTITION}'")}
        return rows.pop(_VERSION, None), rows

    def _commit(self, version: Any, changes: list[Any]) -> bool:
        """Make these changes together if nobody has made others since the version was read."""
        from azure.core import MatchConditions
        from azure.core.exceptions import HttpResponseError

        passed = {"PartitionKey": PARTITION, "RowKey": _VERSION, "turn": secrets.token_hex(8)}
        unchanged = (
            {"etag": version.metadata["etag"], "match_condition": MatchConditions.IfNotModified} if version else {}
        )
        turn = ("update", passed, unchanged) if version else ("create", passed)
        try:
            single_rows.transact(self._table, [turn, *changes])
        except HttpResponseError as error:
            if error.status_code not in single_rows.LOST:
                raise
            return False
        self.forget()
        return True


def subscriptions(bridge: Bridge) -> Subscriptions:
    """This process's view of the subscriptions in a bridge's storage account."""
    return _kept(bridge.storage, bridge.settings.subscription_keys)


@once
def _kept(storage: Storage, keys: tuple[str, ...]) -> Subscriptions:
    return Subscriptions(storage, keys)
