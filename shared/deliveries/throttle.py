"""How many posts to one subscriber a process has open, so that a slow or dead one never stands in others' way."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Posts at once to one that answers fast, and to one that does not or is not known yet.
FAST, SLOW = 8, 2
# Posts at once to all together who do not answer fast: the other threads of a process are for those who do. Fewer
# than host.json's newBatchThreshold, for the host takes no more messages while it has more than that under way.
ALL_SLOW = 6
# An answer that takes longer, or is waited for longer, is slow.
SLOW_SECONDS = 1.0
# Who answers fast is waited for rather than put back: a place is free in a moment.
WAIT_SECONDS = 0.5
# So many failures in a row end the trying for a while, which doubles up to the longest.
FAILURES = 5
FIRST_REST, LONGEST_REST = 10.0, 600.0
_SHORT_DELAY = 2.0


@dataclass(slots=True)
class _State:
    open: list[float] = field(default_factory=list)
    failures: int = 0
    fast: bool | None = None
    resting_until: float = 0.0


class Busy(Exception):
    """No post may be opened now: put the message back for so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the subscriber is busy or resting")
        self.seconds = seconds


class Throttle:
    """One gate a subscription; what is known of them is this process's own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[str, _State] = {}
        self._changed = Condition()

    @contextmanager
    def passing(self, id: str) -> Iterator[None]:
        """Have a post open. Raises Busy: at once where the subscriber is slow or rests, else after half a second."""
        with self._changed:
            state = self._states.setdefault(id, _State())
            deadline = self._clock() + WAIT_SECONDS
            while (refused := self._refused(state)) is not None:
                left = deadline - self._clock()
                if left <= 0 or self._is_hopeless(state):
                    raise Busy(refused * random.uniform(1, 1.25))  # noqa: S311 - jitter
                self._changed.wait(left)
            began = self._clock()
            state.open.append(began)
        try:
            yield
        finally:
            with self._changed:
                state.open.remove(began)
                self._changed.notify_all()

    def note(self, id: str, *, delivered: bool, seconds: float) -> int:
        """Tell what came of a post; returns how many have failed in a row."""
        with self._changed:
            state = self._states.setdefault(id, _State())
            state.fast = delivered and seconds < SLOW_SECONDS
            state.failures = 0 if delivered else state.failures + 1
            state.resting_until = self._clock() + _rest(state.failures)
            return state.failures

    def _refused(self, state: _State) -> float | None:
        """The seconds after which to come again; None where a post may be opened."""
        resting = state.resting_until - self._clock()
        if resting > 0:
            return resting + _SHORT_DELAY
        if state.failures >= FAILURES and state.open:
            # After a rest one post finds out; the others need not look again before the next.
            return _rest(state.failures)
        if self._is_fast(state):
            return None if len(state.open) < FAST else _SHORT_DELAY
        return None if len(state.open) < SLOW and len(self._slow_posts()) < ALL_SLOW else _SHORT_DELAY

    def _is_hopeless(self, state: _State) -> bool:
        """Whether a place will not be free in a moment."""
        if self._is_fast(state):
            return False
        waited = self._clock() - min(self._slow_posts(), default=self._clock())
        return self._is_slow(state) or waited > SLOW_SECONDS or self._clock() < state.resting_until

    def _slow_posts(self) -> list[float]:
        """When the posts began that are open to those who are slow, or not known yet."""
        return [began for state in self._states.values() if not self._is_fast(state) for began in state.open]

    def _is_fast(self, state: _State) -> bool:
        return bool(state.fast) and not self._is_slow(state)

    def _is_slow(self, state: _State) -> bool:
        waited = self._clock() - min(state.open) if state.open else 0.0
        return state.fast is False or waited > SLOW_SECONDS


def _rest(failures: int) -> float:
    excess = failures - FAILURES
    return min(FIRST_REST * 2 ** min(excess, 10), LONGEST_REST) if excess >= 0 else 0.0
