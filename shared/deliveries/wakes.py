"""Small messages on queue `deliveries` that have a subscriber's outbox looked at, no more of them than needed."""

from __future__ import annotations

import math
import time
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


class Wakes:
    """
    What this process has put on the queue: a few messages at once, and then one a second while more comes.

    A message that is not seen yet serves everything that was written before it is.
    """

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        # When the last ones were sent, and when the newest of them is seen.
        self._sent: dict[str, tuple[list[float], float]] = {}

    def wake(self, subscription: str) -> None:
        """Have the outbox looked at soon, after what this thread has written to it."""
        began = self._clock()
        sent, seen = self._sent.get(subscription, ([], began))
        if began < seen:
            return
        recent = [at for at in sent if at > began - GATHER_SECONDS]
        flood = sent and sent[-1] < seen and began < seen + GATHER_SECONDS
        delay = GATHER_SECONDS if flood or len(recent) >= AT_ONCE else 0
        self._send(subscription, delay)
        self._sent[subscription] = [*recent, began], began + delay

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
