"""One budget of PBX calls for all functions and instances, kept in a single row of table `budget`."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shared import ledger as ledgers
from shared.errors import BudgetExhausted, StorageUnavailable
from shared.ledger import LANE_ROWS, Block, Lane, Ledger, Terms
from shared.storage import reaching_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.storage import Storage

TABLE = "budget"
LANES = tuple(lane.name for lane in LANE_ROWS)

_ROW = "calls"
_RANK = {lane.name: rank for rank, lane in enumerate(LANE_ROWS)}
_TRIES = 8
# A budget that waits for storage longer than its callers wait is no use to them.
_STORAGE_OPTIONS: Mapping[str, Any] = {"connection_timeout": 1, "read_timeout": 2, "retry_total": 0}


@dataclass(slots=True)
class _Held:
    """A block in this process's hands: how much of it is left, and when it was taken, by the process's own time."""

    rank: int
    block: Block
    left: int
    taken: float
    until: float
    dry: float | None = None


class Budget:
    """
    Hands out at most 100 calls in any 60 s among all processes that share the account; safe for many threads.

    Calls are reserved in blocks that live in memory for seconds; a block grows with the pace at which the process
    spends, so that under load storage is asked once for many calls. What a process takes and does not spend ages
    out by itself, also when the process dies, and is given back with the next block when it lives. With storage out
    of reach no call is handed out.
    """

    def __init__(
        self,
        storage: Storage,
        account: str,
        *,
        terms: Terms | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage = storage
        self._account = account
        self._terms = terms or Terms()
        self._clock = clock
        self._state = threading.Condition()
        self._waiting = [0] * len(LANE_ROWS)
        self._held: list[_Held] = []
        self._last: dict[int, _Held] = {}
        self._not_before = [0.0] * len(LANE_ROWS)
        self._unspent: Counter[str] = Counter()
        self._reserving = False
        # What the row held when this process saw it last; the row can only have grown since, give-backs aside.
        self._seen: Ledger | None = None
        self._etag: str | None = None
        self._contended = False

    def take(self, lane: str) -> None:
        """
        Return once one call of this lane may be made, within the next second.

        Lanes come in the order of LANES: whoever waits in an earlier one is served first, and later ones leave the
        last calls to them. Raises BudgetExhausted when none came within 2 s, and StorageUnavailable.
        """
        rank = _RANK[lane]
        deadline = time.monotonic() + self._terms.patience * self._terms.scale
        with self._state:
            self._waiting[rank] += 1
            try:
                while not self._spend(rank):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise BudgetExhausted(self._retry_after(rank))
                    pause = self._not_before[rank] - time.monotonic()
                    if self._reserving:
                        self._state.wait(left)
                    elif pause > 0:
                        self._state.wait(min(left, pause))
                    else:
                        self._reserve(rank)
            finally:
                self._waiting[rank] -= 1

    def _spend(self, rank: int) -> bool:
        self._drop_expired()
        usable = [held for held in self._held if held.rank >= rank]
        if sum(held.left for held in usable) <= sum(self._waiting[:rank]):
            last = self._last.get(rank)
            if last and last.dry is None:
                last.dry = time.monotonic()
            return False
        held = min(usable, key=lambda held: held.rank)
        held.left -= 1
        if not held.left:
            self._held.remove(held)
        return True

    def _drop_expired(self) -> None:
        # The machine's clock may jump and the process's own may stand still in its sleep: the stricter one counts.
        wall, own = self._clock(), time.monotonic()
        for held in [held for held in self._held if own >= held.until or wall >= held.block.end]:
            self._held.remove(held)
            self._unspent[held.block.id] += held.left

    def _retry_after(self, rank: int) -> int:
        wait = self._not_before[rank] - time.monotonic()
        return max(1, math.ceil(wait))

    def _reserve(self, rank: int) -> None:
        lane, wanted, waiting = LANE_ROWS[rank], self._wanted(rank), sum(self._waiting[: rank + 1])
        unspent = Counter(self._unspent)
        self._reserving = True
        self._state.release()
        held = None
        try:
            held = self._draw(lane, wanted, waiting, unspent)
        finally:
            self._state.acquire()
            self._reserving = False
            self._state.notify_all()
            if held:
                self._held.append(held)
                self._last[rank] = held
        self._not_before[rank] = 0.0 if held else time.monotonic() + self._wait_for_room(lane, wanted)

    def _wanted(self, rank: int) -> int:
        """The calls that this process spends in one hold of the lane, going by the lane's last block."""
        last, hold = self._last.get(rank), LANE_ROWS[rank].hold * self._terms.scale
        pace = 1.0
        if last:
            spent_for = max(min(last.dry or last.until, last.until) - last.taken, 0.001)
            pace = (last.block.count - last.left) * hold / spent_for
        return max(1, min(self._terms.largest_block, max(math.ceil(pace), sum(self._waiting[: rank + 1]))))

    def _wait_for_room(self, lane: Lane, wanted: int) -> float:
        """Seconds until asking again is worth a storage call; later lanes wait for a whole block of room."""
        if self._seen is None:
            return 0.0
        now, scale = self._clock(), self._terms.scale
        first = self._seen.free_at(lane, 1, now, self._terms) - now
        if lane.shares:
            return max(first, 0.05 * scale)
        whole = self._seen.free_at(lane, wanted, now, self._terms) - now
        # Every process knows the same moment: they must not all come at once.
        return min(whole, first + 3 * scale) + random.uniform(0.05, 1) * scale  # noqa: S311 - no secret

    def _draw(self, lane: Lane, wanted: int, waiting: int, unspent: Counter[str]) -> _Held | None:
        """Reserve a block in the row by compare-and-swap; None when there is no room, or others kept coming first."""
        fresh = False
        for _ in range(_TRIES):
            if self._seen is None or (self._contended and not fresh):
                self._look()
            own, now = time.monotonic(), self._clock()
            seen = (self._seen or Ledger()).at(now, self._terms)
            base = seen.less(unspent)
            room = base.room(lane, now, self._terms)
            count = min(wanted, max(waiting, math.ceil(room / 2)) if lane.shares else wanted, room)
            if count < 1:
                return None
            hold = lane.hold * self._terms.scale
            block = Block(uuid4().hex[:8], now + hold, count)
            if self._swap(base.plus(block), unspent):
                return _Held(_RANK[lane.name], block, count, own, own + hold)
            self._contended = True
            threading.Event().wait(random.uniform(0.002, 0.02))  # noqa: S311 - no secret
            self._look()
            fresh = True
        return None

    def _look(self) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            with reaching_storage():
                row = self._storage.table(TABLE).get_entity(self._account, _ROW, **_STORAGE_OPTIONS)
        except ResourceNotFoundError:
            self._seen, self._etag = Ledger(), None
            return
        etag = row.metadata["etag"]
        self._contended = self._etag is not None and etag != self._etag
        self._seen, self._etag = ledgers.read(row.get("blocks"), self._clock(), self._terms), etag

    def _swap(self, new: Ledger, unspent: Counter[str]) -> bool:
        """Replace the row by `new` if nobody has changed it; whether that worked."""
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
        from azure.data.tables import UpdateMode

        table = self._storage.table(TABLE)
        row = {"PartitionKey": self._account, "RowKey": _ROW, "blocks": ledgers.write(new)}
        etag, self._seen = self._etag, None
        options = dict(_STORAGE_OPTIONS)
        if etag:
            options |= {"mode": UpdateMode.REPLACE, "etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            with reaching_storage():
                answer = (table.update_entity if etag else table.create_entity)(row, **options)
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            return False
        except StorageUnavailable:
            # It may have been written: giving the same calls back again would hand them out twice.
            self._forget(unspent)
            raise
        self._forget(unspent)
        self._seen, self._etag = new, answer["etag"]
        return True

    def _forget(self, unspent: Counter[str]) -> None:
        with self._state:
            self._unspent -= unspent
