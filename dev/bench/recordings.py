"""A hundred thousand recordings a day against the PBX's budget: its real code, on a clock that runs faster."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dev.azurite import AzuriteProcess
from dev.bench.figures import Figure, at_most
from shared.errors import BudgetExhausted
from shared.media.copy import LOOK_SECONDS, LOOKS
from shared.media.records import EVERY_SECONDS, LANE, Pace
from shared.pbx.budget import Budget
from shared.settings import StorageAccount
from shared.storage.account import Storage

if TYPE_CHECKING:
    from collections.abc import Callable

_A_DAY = 100_000
# A minute takes three seconds; storage is as slow as ever.
_SCALE, _MINUTES = 0.05, 20
_COPIERS = 2
# Each minute calls, recordings and voicemails are polled; actions come ten a minute.
_POLLS, _ACTION_SECONDS = 3, 6.0


def figures() -> list[Figure]:
    """What becomes of recordings, polls and actions in twenty minutes of such a day, three processes at work."""
    with AzuriteProcess(accounts=1) as azurite:
        storage = Storage(StorageAccount(connection_string=azurite.account(0)))
        storage.ready()
        day = _Day(storage)
        day.run()
    day_of = f"{_A_DAY:,} recordings a day"
    return [
        at_most(f"{day_of}: announced without what the list knows", f"of {day.arrived:,}, budget's code", day.bare, 0),
        at_most(f"{day_of}: polls that got no call in their minute", f"of {day.polls}", day.missed, 0),
        at_most(f"{day_of}: slowest action, s", "simulated time", day.slowest, 2),
        at_most(f"{day_of}: PBX calls in any 60 s", "simulated time", day.most_calls(), 100),
    ]


@dataclass
class _Day:
    """Three processes' threads on one budget, and what they saw; times in simulated seconds."""

    storage: Storage
    arrived: int = 0
    bare: int = 0
    polls: int = 0
    missed: int = 0
    slowest: float = 0.0
    calls: list[float] = field(default_factory=list)
    polled: float = -1.0
    queue: list[tuple[float, int, float, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    began: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Seconds of the day."""
        return (time.monotonic() - self.began) / _SCALE

    def run(self) -> None:
        """The whole of it."""
        copiers = [self._copier(self._budget()) for _ in range(_COPIERS)]
        others = self._budget()
        works: list[Callable[[], None]] = [
            lambda: self._every(86_400 / _A_DAY, self._arrive),
            *copiers,
            lambda: self._every(60 / _POLLS, lambda: self._poll(others)),
            lambda: self._every(_ACTION_SECONDS, lambda: self._act(others)),
        ]
        crew = [threading.Thread(target=work) for work in works]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()

    def most_calls(self) -> int:
        """The most calls that fell into a minute."""
        times, first, most = sorted(self.calls), 0, 0
        for last, moment in enumerate(times):
            while moment - times[first] >= 60:
                first += 1
            most = max(most, last - first + 1)
        return most

    def _budget(self) -> Budget:
        return Budget(self.storage, "pbx.example", window=60 * _SCALE)

    def _every(self, seconds: float, work: Callable[[], None]) -> None:
        for number in itertools.count(1):
            threading.Event().wait(max(0.0, (number * seconds - self.now()) * _SCALE))
            if self.now() > _MINUTES * 60:
                return
            work()

    def _take(self, budget: Budget, lane: str) -> bool:
        try:
            budget.take(lane)
        except BudgetExhausted:
            return False
        self.calls.append(self.now())
        return True

    def _arrive(self) -> None:
        with self.lock:
            self.arrived += 1
            heapq.heappush(self.queue, (self.now(), self.arrived, self.now(), 0))

    def _poll(self, budget: Budget) -> None:
        self.polls += 1
        moment = self.now()
        until = moment + 60 / _POLLS
        while not self._take(budget, "poll"):
            if self.now() > until:
                self.missed += 1
                return
        if self.polls % _POLLS == 0:
            self.polled = moment

    def _act(self, budget: Budget) -> None:
        began = self.now()
        self.slowest = max(self.slowest, self.now() - began if self._take(budget, "action") else 60.0)

    def _copier(self, budget: Budget) -> Callable[[], None]:
        pace = Pace(EVERY_SECONDS * _SCALE)

        def work() -> None:
            while self.now() <= _MINUTES * 60:
                with self.lock:
                    due = heapq.heappop(self.queue) if self.queue and self.queue[0][0] <= self.now() else None
                if due is None:
                    threading.Event().wait(0.002)
                    continue
                self._look(budget, pace, *due[1:])

        return work

    def _look(self, budget: Budget, pace: Pace, number: int, arrived: float, looks: int) -> None:
        """As `completed` does: the polled row first, then by id where it is one's turn, else again later."""
        if arrived <= self.polled or (pace.is_due() and self._take(budget, LANE)):
            return
        if looks >= LOOKS:
            self.bare += 1
            return
        with self.lock:
            heapq.heappush(self.queue, (self.now() + LOOK_SECONDS, number, arrived, looks + 1))
