"""The posts of one run: several at once, with events read ahead, and answers a few at a time."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import BoundedSemaphore, Semaphore
from typing import TYPE_CHECKING, Self

from shared.deliveries.entries import SLOW_SECONDS
from shared.deliveries.post import Outcome, read_event, send_event
from shared.errors import Unprocessable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from shared.bridge import Bridge
    from shared.deliveries.entries import Place
    from shared.subscriptions.subscription import Subscription

# Posts at once to a subscriber that answers soon, and to one that does not.
QUICK, SLOW = 8, 2
# So many threads read events for those that post.
_READERS = 4
# Lined up, so that no thread is idle while what was answered is written down.
LINED_UP = 3 * QUICK
# A transaction costs as much by itself as ten events in it: answers that come within a moment share one.
_GATHER_SECONDS = 0.05


class Posts:
    """
    What is under way to one subscriber; a context manager.

    `stopped` is asked before each post: where it says so, the post is not begun.
    """

    def __init__(self, bridge: Bridge, one: Subscription, stopped: Callable[[], bool]) -> None:
        self._bridge, self._one, self._stopped = bridge, one, stopped
        self._pool = ThreadPoolExecutor(QUICK + _READERS)
        self._slots = BoundedSemaphore(QUICK)
        # What is lined up must not be posted so many at once to a subscriber that turns slow: see `_post`.
        self._spare = Semaphore(QUICK - SLOW)
        self._open: dict[Future[Outcome | None], Place] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What nobody is left to write down is not begun: it would be posted again.
        self._stopped = lambda: True
        self._pool.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def places(self) -> Collection[Place]:
        """Whose events are under way, or wait for a thread."""
        return self._open.values()

    def begin(self, place: Place) -> None:
        """Post an event as soon as it is its turn."""
        self._open[self._pool.submit(self._post, place.event)] = place

    def answers(self) -> Iterator[tuple[Place, Future[Outcome | None]]]:
        """Wait for the first answer; those that come in the next moment are with it while all goes well."""
        answered, others = wait(self._open, return_when=FIRST_COMPLETED)
        done = answered
        until = time.monotonic() + _GATHER_SECONDS
        while others and all(map(_is_delivered, done)) and (left := until - time.monotonic()) > 0:
            done, others = wait(others, left, FIRST_COMPLETED)
            answered |= done
        for future in answered:
            yield self._open.pop(future), future

    def cancel(self) -> bool:
        """Begin no more of what waits for a thread; whether there was anything."""
        waiting = [future for future in self._open if future.cancel()]
        for future in waiting:
            del self._open[future]
        return bool(waiting)

    def _post(self, id: str) -> Outcome | None:
        try:
            event = read_event(self._bridge.storage, id)
        except Unprocessable as error:
            return Outcome("lost", str(error), 0.0)
        quick = True
        self._slots.acquire()
        try:
            if self._stopped():
                return None
            outcome = send_event(self._bridge, self._one, event)
            quick = is_quick(outcome)
            return outcome
        finally:
            # An answer that was not quick takes its slot away for the rest of the run.
            if quick or not self._spare.acquire(blocking=False):
                self._slots.release()


def is_quick(outcome: Outcome) -> bool:
    """Whether a subscriber that answers so can take many posts at once."""
    return outcome.verdict == "delivered" and outcome.seconds < SLOW_SECONDS


def _is_delivered(future: Future[Outcome | None]) -> bool:
    outcome = None if future.exception() else future.result()
    return outcome is not None and outcome.verdict == "delivered"
