"""What became of the deliveries to each subscription, and what follows when nothing gets through for days."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.events.receive import submit
from shared.once import once
from shared.subscriptions.endpoints import host_of
from shared.subscriptions.store import TABLE, subscriptions
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.deliveries.post import Outcome
    from shared.storage.account import Storage
    from shared.subscriptions.subscription import Subscription

logger = logging.getLogger(__name__)

PARTITION = "log"
DISABLED_AFTER = timedelta(days=5)
DISABLED, RECOVERED = "SubscriptionDisabled", "SubscriptionRecovered"
# A success like the one before is written down this often; a change of fortune at once.
_WRITE_SECONDS = 15.0


@dataclass(slots=True)
class _Written:
    result: str = ""
    until: float = 0.0


class DeliveryLog:
    """One row a subscription: the last result, its attempt and latency, the last success, and failures in a row."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        self._written: dict[str, _Written] = {}
        self._lock = Lock()

    def note(self, id: str, outcome: Outcome, attempt: int, moment: datetime) -> Mapping[str, Any]:
        """Write down what came of an attempt; the row as it is then, empty where nothing was written."""
        from azure.data.tables import UpdateMode

        delivered = outcome.verdict == "delivered"
        with self._lock:
            before = self._written.setdefault(id, _Written())
            if delivered and before.result == outcome.result and self._clock() < before.until:
                return {}
            self._written[id] = _Written(outcome.result, self._clock() + _WRITE_SECONDS)
        row: dict[str, Any] = {"PartitionKey": PARTITION, "RowKey": id, "result": outcome.result, "at": iso(moment)}
        row |= {"attempt": attempt + 1, "milliseconds": round(outcome.seconds * 1000)}
        if delivered:
            row |= {"delivered": iso(moment), "failures": 0, "failing": ""}
        else:
            known = self.read(id)
            row["failures"] = int(known.get("failures", 0)) + 1
            row["failing"] = known.get("failing") or iso(moment)
            row["delivered"] = known.get("delivered", "")
        self._storage.table(TABLE).upsert_entity(row, mode=UpdateMode.REPLACE)
        return row

    def read(self, id: str) -> Mapping[str, Any]:
        """The row of a subscription, empty while nothing was sent."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            found: Mapping[str, Any] = self._storage.table(TABLE).get_entity(PARTITION, id)
        except ResourceNotFoundError:
            return {}
        return found

    def read_all(self) -> dict[str, Mapping[str, Any]]:
        """All rows by subscription."""
        rows = self._storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}'")
        return {row["RowKey"]: row for row in rows}

    def begin_anew(self, id: str) -> None:
        """Count the days of failures from the next one on."""
        from azure.core.exceptions import ResourceNotFoundError
        from azure.data.tables import UpdateMode

        row = {"PartitionKey": PARTITION, "RowKey": id, "failures": 0, "failing": ""}
        try:
            self._storage.table(TABLE).update_entity(row, mode=UpdateMode.MERGE)
        except ResourceNotFoundError:
            logger.debug("nothing was sent to it yet")

    def drop(self, id: str) -> None:
        """Forget a subscription that has ended."""
        self._storage.table(TABLE).delete_entity(PARTITION, id)


@once
def delivery_log(storage: Storage) -> DeliveryLog:
    """This process's log of deliveries in a storage account."""
    return DeliveryLog(storage)


def end(storage: Storage, id: str) -> bool:
    """End a subscription; False when there was none. What is on its way to it is dropped."""
    ended = subscriptions(storage).end(id)
    if ended:
        delivery_log(storage).drop(id)
    return ended


def note(bridge: Bridge, one: Subscription, outcome: Outcome, attempt: int) -> None:
    """Write down what came of an attempt; disable who had nothing but failures for five days, enable who is back."""
    moment = now()
    row = delivery_log(bridge.storage).note(one.id, outcome, attempt, moment)
    if outcome.verdict == "delivered":
        if one.disabled:
            _recover(bridge, one)
    elif one.active and row and _only_failures(row, moment):
        _disable(bridge, one, moment)


def _only_failures(row: Mapping[str, Any], moment: datetime) -> bool:
    since = moment - DISABLED_AFTER
    return parse_time(row["failing"]) <= since and (not row["delivered"] or parse_time(row["delivered"]) <= since)


def _disable(bridge: Bridge, one: Subscription, moment: datetime) -> None:
    def disabled(known: Subscription) -> Subscription | None:
        return replace(known, disabled=moment, trying=False) if known.active else None

    if subscriptions(bridge.storage).change(one.id, disabled):
        logger.warning("signal subscription_disabled subscription=%s event=%s", one.id, one.event)
        _tell(bridge, DISABLED, one, moment)


def _recover(bridge: Bridge, one: Subscription) -> None:
    def enabled(known: Subscription) -> Subscription | None:
        return replace(known, disabled=None, trying=False) if known.disabled else None

    if subscriptions(bridge.storage).change(one.id, enabled):
        logger.info("subscription %s works again", one.id)
        _tell(bridge, RECOVERED, one, now())


def _tell(bridge: Bridge, event: str, one: Subscription, moment: datetime) -> None:
    told = {"subscriptionID": one.id, "event": one.event, "host": host_of(one.endpoint), "since": iso(moment)}
    submit(bridge.storage, bridge.settings, event, told, origin="bridge", received=moment)
