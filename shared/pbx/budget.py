"""One budget of PBX calls for all processes: at most 100 in any 60 seconds, counted in one row of table `budget`."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.errors import BudgetExhausted
from shared.storage import rows
from shared.storage.account import Storage
from shared.times import iso

TABLE = "budget"
LIMIT = 100
# The calls of each window that a lane leaves to the lanes above it.
LANES: Mapping[str, int] = {"action": 0, "media": 20, "poll": 25, "backfill": 45}
# A call is reserved at most this far ahead.
AHEAD_SECONDS = 2.0
# The longest call to the PBX, with its retries and all waiting.
LONGEST_SECONDS = 20.0
LONGEST_REST_SECONDS = 3600.0
_ROW = "calls"
_WINDOW_SECONDS = 60.0
# The part added to the window: 2 s for clocks that differ, and 1 s for calls that reach the PBX late.
_MARGIN = 0.05
_LATE_SECONDS = 1.0


@dataclass(eq=False)
class Budget:
    """
    The budget of calls that all processes of one PBX account share; safe for many threads.

    Its row has the times of past and reserved calls. A call is reserved under the row's ETag, so that no window has
    more calls than the limit. Without storage no call is made.
    """

    storage: Storage
    account: str
    limit: int = LIMIT
    window: float = _WINDOW_SECONDS
    clock: Callable[[], float] = time.time
    # The threads of a process take turns instead of racing for the row.
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, lane: str, *, until: float | None = None) -> None:
        """
        Reserve the lane's next call, and wait for its time.

        Raises BudgetExhausted if that is over two seconds away or after `until` (monotonic seconds), and
        StorageUnavailable.
        """
        room = max(1, self.limit - LANES[lane])
        until = until or time.monotonic() + LONGEST_SECONDS
        while True:
            if not self.lock.acquire(timeout=max(0.0, until - time.monotonic())):
                raise BudgetExhausted(1)
            try:
                moment = self._reserve(room, until)
            finally:
                self.lock.release()
            threading.Event().wait(max(0.0, moment - self.clock()))
            # After slow storage or a sleep of the machine, the reservation has lapsed.
            if self.clock() - moment < _LATE_SECONDS:
                return

    def rest(self, seconds: float) -> None:
        """Stop all calls of all processes for these seconds; raises StorageUnavailable or Conflict."""
        end = self.clock() + min(seconds, LONGEST_REST_SECONDS)

        def prolonged(row: Mapping[str, Any] | None) -> dict[str, Any]:
            return {**(row or {}), "rest": max(end, _read(row, end)[1])}

        rows.change(self.storage.table(TABLE), self.account, _ROW, prolonged)

    def _reserve(self, room: int, until: float) -> float:
        """Add the first time at which the lane has room to the row, and return it."""
        table, memory = self.storage.table(TABLE), self.window * (1 + _MARGIN)
        while True:
            # A single try, as other threads wait meanwhile.
            row, now = rows.get(table, self.account, _ROW, tries=1), self.clock()
            calls, rest = _read(row, now, memory)
            moment = max(now, rest)
            if len(calls) >= room:
                moment = max(moment, calls[-room] + memory)
            if moment - now > min(AHEAD_SECONDS, until - time.monotonic()):
                raise BudgetExhausted(max(1, math.ceil(moment - now)))
            columns = {"calls": json.dumps([round(call, 3) for call in [*calls, moment]]), "rest": rest}
            columns |= {"PartitionKey": self.account, "RowKey": _ROW}
            if rows.swap(table, columns, row.etag if row else None):
                return moment
            threading.Event().wait(random.uniform(0.01, 0.06))  # noqa: S311 - no secret


def state(storage: Storage, account: str) -> dict[str, Any]:
    """Return the number of calls in the last minute, and the end of the PBX's rest; raises StorageUnavailable."""
    now = time.time()
    calls, rest = _read(rows.get(storage.table(TABLE), account, _ROW), now)
    until = iso(datetime.fromtimestamp(rest, UTC)) if rest > now else None
    return {"limit": LIMIT, "used": len(calls), "restsUntil": until}


def _read(row: Mapping[str, Any] | None, now: float, memory: float = _WINDOW_SECONDS) -> tuple[list[float], float]:
    """Return the times of the calls that count, and the end of a rest; times of a wrong clock are cut to the latest."""
    calls = json.loads(row.get("calls", "[]")) if row else []
    rest = row.get("rest", 0.0) if row else 0.0
    counted = sorted([min(call, now + AHEAD_SECONDS) for call in calls if call > now - memory])
    return counted, min(rest, now + LONGEST_REST_SECONDS)
