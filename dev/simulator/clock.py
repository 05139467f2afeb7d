"""The simulator's time: real by default; tests freeze and advance it."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """
    The time, and steps that run when they are due.

    It is real time until `set` freezes it; then only `advance`, `set` and `play` move it. Each step runs once, in
    order of due times, and sees its due time as the present.
    """

    def __init__(self) -> None:
        self._frozen: datetime | None = None
        self._running: datetime | None = None
        self._steps: list[tuple[datetime, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._state = threading.Condition(threading.RLock())
        self._closed = False
        self._thread: threading.Thread | None = None

    def now(self) -> datetime:
        """Return the present in UTC: the due time of the running step, else the clock's time."""
        return self._running or self._frozen or datetime.now(UTC)

    def at(self, moment: datetime, step: Callable[[], object]) -> None:
        """Run the step at a moment, or at once if it has passed."""
        with self._state:
            heapq.heappush(self._steps, (moment, next(self._order), step))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._tick, name="simulator-clock", daemon=True)
                self._thread.start()
            self._state.notify_all()
        self._run_due()

    def advance(self, seconds: float) -> None:
        """Move a frozen clock forward, and run the steps that become due in the calling thread."""
        self.set(self.now() + timedelta(seconds=seconds))

    def set(self, moment: datetime | None) -> None:
        """Freeze the clock at a moment; None returns to real time."""
        with self._state:
            self._frozen = moment and moment.astimezone(UTC)
            self._state.notify_all()
        self._run_due()

    def play(self, pace: float, pause: Callable[[float], object] = time.sleep) -> None:
        """
        Run all steps, `pace` real seconds apart, and leave the clock frozen.

        `pause` waits between steps; it ends the play by returning true.
        """
        while (due := self._due()) is not None and not self._closed and not pause(pace):
            self.set(max(due, self.now()))

    def clear(self) -> None:
        """Forget all steps and return to real time."""
        with self._state:
            self._steps.clear()
        self.set(None)

    def close(self) -> None:
        """Stop the thread that watches real time."""
        self._closed = True
        self.clear()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _due(self) -> datetime | None:
        with self._state:
            return self._steps[0][0] if self._steps else None

    def _run_due(self) -> None:
        with self._state:
            while self._running is None and self._steps and self._steps[0][0] <= self.now():
                self._running, _, step = heapq.heappop(self._steps)
                try:
                    step()
                finally:
                    self._running = None

    def _tick(self) -> None:
        while not self._closed:
            with self._state:
                due = self._due()
                wait = None if due is None or self._frozen else (due - self.now()).total_seconds()
                if not self._closed and (wait is None or wait > 0):
                    self._state.wait(wait)
            self._run_due()
