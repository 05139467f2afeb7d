"""Webhooks: who subscribed, and the deliveries that the simulator posts to them."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from dev.simulator.faults import DELIVERY_KINDS, Faults
from dev.simulator.resources import EVENT
from dev.simulator.wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dev.simulator.resources import Item
    from dev.simulator.wire import Options, Writer

TIMEOUT = 5.0  # seconds for one delivery
FIRST_ID = 4001

_SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "subscription": lambda name: name,
    "event": lambda name: f"{name}Event",
    "reference": lambda name: EVENT[name].reference_name or name,
    "lower": str.lower,
    "upper": str.upper,
}


@dataclass(frozen=True)
class Subscription:
    """One webhook of the account."""

    id: int
    event: str
    endpoint: str


@dataclass(frozen=True)
class Posted:
    """One delivery: when it began (monotonic seconds), what was sent, and the status answered (None: no answer)."""

    at: float
    event: str
    endpoint: str
    body: Mapping[str, Any]
    status: int | None
    seconds: float


@dataclass
class Webhooks:
    """The account's subscriptions and the pool that posts events to them, without retries."""

    options: Options
    writer: Writer
    workers: int = 4
    seed: int = 0
    subscriptions: dict[int, Subscription] = field(default_factory=dict)
    posted: list[Posted] = field(default_factory=list)
    happened: set[str] = field(default_factory=set)  # names of events, also of those that nobody subscribed to

    def __post_init__(self) -> None:
        self.faults = Faults(DELIVERY_KINDS, self.seed)
        self._ids = itertools.count(FIRST_ID)
        self._state = threading.Condition()
        self._open = 0
        self._held: list[tuple[Subscription, Mapping[str, Any]]] = []
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._pool = ThreadPoolExecutor(self.workers, "simulator-webhook")

    def subscribe(self, event: str, endpoint: str) -> Subscription | None:
        """A new webhook, or None where the account has all that it may have."""
        with self._state:
            if len(self.subscriptions) >= self.options.webhook_cap:
                return None
            new = Subscription(next(self._ids), event, endpoint)
            self.subscriptions[new.id] = new
            return new

    def unsubscribe(self, webhook_id: int) -> bool:
        """Whether there was such a webhook; there is none now."""
        with self._state:
            return self.subscriptions.pop(webhook_id, None) is not None

    def emit(self, event: str, data: Item) -> None:
        """Posts the event to all who subscribed to it, in the background."""
        row = EVENT[event]
        self.happened.add(event)
        names = (*row.fields, *(name for name in row.optional if data.get(name) is not None))
        body = {
            "type": "Event",
            "eventType": _SPELLINGS[self.options.spelling](event),
            "version": self.options.event_version,
            "data": self.writer.item({name: data.get(name) for name in names}),
        }
        with self._state:
            targets = [row for row in self.subscriptions.values() if row.event == event]
        for target in targets:
            self._deliver(target, body)

    def settle(self, timeout: float = 10.0) -> bool:
        """Sends what was held back and waits for open deliveries; False where time ran out first."""
        self._release()
        with self._state:
            return self._state.wait_for(lambda: self._open == 0, timeout)

    def clear(self) -> None:
        """Forgets subscriptions, deliveries and faults."""
        with self._state:
            self.subscriptions.clear()
            self.posted.clear()
            self.happened.clear()
            self._held.clear()
        self.faults.clear()

    def close(self) -> None:
        """Ends the pool; what was not posted yet is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for session in self._sessions:
            session.close()

    def _deliver(self, target: Subscription, body: dict[str, Any]) -> None:
        fault = self.faults.pick(target.event)
        kind = fault.kind if fault else ""
        wait = 0.0
        if fault:
            body = _spoiled(body, kind, fault.value, fault.status)
            wait = fault.delay if kind == "delay" else 0.0
        if kind == "drop":
            return
        if kind == "disorder":
            with self._state:
                self._held.append((target, body))
            return
        self._submit(target, body, wait)
        if kind == "duplicate":
            self._submit(target, body, 0.0)
        self._release()

    def _release(self) -> None:
        with self._state:
            held, self._held = self._held, []
        for target, body in reversed(held):
            self._submit(target, body, 0.0)

    def _submit(self, target: Subscription, body: Mapping[str, Any], wait: float) -> None:
        with self._state:
            self._open += 1
        if wait:
            timer = threading.Timer(wait, self._start, (target, body))
            timer.daemon = True
            timer.start()
        else:
            self._start(target, body)

    def _start(self, target: Subscription, body: Mapping[str, Any]) -> None:
        try:
            self._pool.submit(self._post, target, body)
        except RuntimeError:  # the pool is closed
            self._finish()

    def _finish(self) -> None:
        with self._state:
            self._open -= 1
            self._state.notify_all()

    def _post(self, target: Subscription, body: Mapping[str, Any]) -> None:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
            self._sessions.append(session)
        began, status = time.monotonic(), None
        try:
            answer = session.post(
                target.endpoint,
                data=encode(body),
                headers={"Content-Type": "application/json"},
                timeout=TIMEOUT,
                allow_redirects=False,
            )
            status = answer.status_code
        except requests.RequestException:
            pass  # no retry and no answer: status stays None
        finally:
            with self._state:
                self.posted.append(Posted(began, target.event, target.endpoint, body, status, time.monotonic() - began))
            self._finish()


def _spoiled(body: dict[str, Any], kind: str, value: Any, status: int) -> dict[str, Any]:
    data = body["data"]
    if kind == "spelling":
        return body | {"eventType": value}
    if kind in ("extra", "rewrite"):
        return body | {"data": data | (value or {"queueName": "Pārdošana", "tags": [{"id": 2**62}]})}
    if kind == "blank":
        return body | {"data": data | dict.fromkeys(value, None if status == 0 else "")}
    return body
