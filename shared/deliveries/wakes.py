"""Small messages on queue `deliveries` that have a subscriber's outbox looked at, no more of them than needed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from shared.once import once
from shared.storage.messages import send
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.storage.account import Storage

QUEUE = "deliveries"
KIND = "wake"
# After so many messages within a second, what comes in the next one is served by one message at its end.
AT_ONCE, GATHER_SECONDS = 4, 1


@dataclass(slots=True)
class _Sent:
    at: list[float]
    seen: float
    late: bool


class Wakes:
    """
    What this process has put on the queue: a few messages at once, and then one a second while more comes.

    A message that is not seen yet serves everything that was written before it is.
    """

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        self._sent: dict[str, _Sent] = {}
        self._lock = Lock()

    def wake(self, subscription: str) -> None:
        """Have the outbox looked at soon, after what this thread has written to it."""
        began = self._clock()
        with self._lock:
            last = self._sent.get(subscription)
        if last is not None and began < last.seen:
            return
        recent = [at for at in last.at if at > began - GATHER_SECONDS] if last is not None else []
        flood = last is not None and last.late and began < last.seen + GATHER_SECONDS
        delay = GATHER_SECONDS if flood or len(recent) >= AT_ONCE else 0
        self._send(subscription, delay)
        with self._lock:
            self._sent[subscription] = _Sent([*recent, began], began + delay, bool(delay))

    def wake_at(self, subscription: str, moment: datetime) -> None:
        """Have the outbox looked at then."""
        self._send(subscription, max(math.ceil((moment - now()).total_seconds()), 1))

    def _send(self, subscription: str, delay: int) -> None:
        message = {"kind": KIND, "id": subscription, "subscription": subscription}
        send(self._storage, QUEUE, message, name=subscription, delay=delay)


@once
def wakes(storage: Storage) -> Wakes:
    """The messages that this process has sent in a storage account."""
    return Wakes(storage)
