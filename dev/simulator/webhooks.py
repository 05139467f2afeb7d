"""Webhooks: the account's subscriptions, and the deliveries to them."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import requests

from dev.simulator.faults import Faults
from dev.simulator.resources import posted
from dev.simulator.wire import Item, Options, encode

_TIMEOUT = 5.0  # seconds for one delivery
_FIRST_ID = 4001


@dataclass(frozen=True)
class Subscription:
    """One webhook of the account."""

    id: int
    event: str
    endpoint: str


class Webhooks:
    """The account's subscriptions; events are posted to them by a pool, without retries."""

    def __init__(self, options: Options, wire: Callable[[Item], Item], workers: int) -> None:
        self.options, self.wire = options, wire
        self.subscriptions: dict[int, Subscription] = {}
        self.happened: set[str] = set()  # names of events, also without a subscription
        self.faults = Faults()
        self._ids = itertools.count(_FIRST_ID)
        self._lock = threading.Lock()
        self._deliveries: set[Future[None]] = set()
        self._session = requests.Session()
        self._session.trust_env = False
        self._pool = ThreadPoolExecutor(workers, "simulator-webhook")

    def subscribe(self, event: str, endpoint: str) -> Subscription | None:
        """Add a webhook; None at the account's limit."""
        with self._lock:
            if len(self.subscriptions) >= self.options.webhook_cap:
                return None
            new = Subscription(next(self._ids), event, endpoint)
            self.subscriptions[new.id] = new
            return new

    def unsubscribe(self, webhook_id: int) -> bool:
        """Remove a webhook; False if it is unknown."""
        with self._lock:
            return self.subscriptions.pop(webhook_id, None) is not None

    def emit(self, event: str, data: Item) -> None:
        """Post an event to its subscriptions in the background."""
        self.happened.add(event)
        body = {"type": "Event", "eventType": event, "version": "v1", "data": self.wire(posted(event, data))}
        with self._lock:
            targets = [row for row in self.subscriptions.values() if row.event == event]
            new = {self._pool.submit(self._post, row, body) for row in targets if self.faults.pick(event) is None}
            self._deliveries = {delivery for delivery in self._deliveries if not delivery.done()} | new

    def wait_delivered(self, timeout: float = 10.0) -> bool:
        """Wait for the open deliveries; False if that takes longer than `timeout`."""
        with self._lock:
            deliveries = set(self._deliveries)
        return not wait(deliveries, timeout).not_done

    def clear(self) -> None:
        """Forget subscriptions, events and faults."""
        with self._lock:
            self.subscriptions.clear()
            self.happened.clear()
        self.faults.clear()

    def close(self) -> None:
        """End the pool, and drop deliveries that have not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._session.close()

    def _post(self, target: Subscription, body: Mapping[str, Any]) -> None:
        headers = {"Content-Type": "application/json"}
        # The PBX tries once.
        with contextlib.suppress(requests.RequestException):
            self._session.post(
                target.endpoint, data=encode(body), headers=headers, timeout=_TIMEOUT, allow_redirects=False
            )
