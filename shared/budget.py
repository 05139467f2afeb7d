"""One budget of PBX calls for all functions and instances: at most 100 in any 60 seconds."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING

from shared.errors import BudgetExhausted, StorageUnavailable
from shared.ledger import LANE_ROWS, Block, Ledger, Terms
from shared.ledger_row import LedgerRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.storage import Storage

LANES = tuple(lane.name for lane in LANE_ROWS)

_RANK = {lane.name: rank for rank, lane in enumerate(LANE_ROWS)}
_TRIES = 8
_GOOD_BLOCK = 10
_CRUMB = 5
_LONGEST_REST_SECONDS = 8.0


@dataclass(slots=True)
class _Held:
    """A block in this process's hands: whose it is, what is left of it, and when by the process's own time."""

    rank: int
    block: Block
    left: int
    taken: float
    until: float
    dry: float | None = None

    def pace(self, hold: float) -> int:
        """Calls that its lane would spend in so many seconds."""
        spent_for = max(min(self.dry or self.until, self.until) - self.taken, 0.001)
        return math.ceil((self.block.count - self.left) * hold / spent_for)


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a lane could use now, and how many of its callers wait."""

    rank: int
    wanted: int
    waiting: int


class Budget:
    """
    Hands out the calls that all processes with the same account may make together; safe for many threads.

    Calls are reserved in blocks that live in memory for seconds. A block grows with the pace at which the process
    spends, so that under load storage is asked once for many calls. What a process takes and does not spend ages
    out by itself, also when the process dies, and is given back with the next block while it lives. With storage
    out of reach no call is handed out.
    """

    def __init__(
        self, storage: Storage, account: str, *, terms: Terms | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._terms = terms or Terms()
        self._clock = clock
        self._row = LedgerRow(storage, account, self._terms, clock)
        self._state = threading.Condition()
        self._reserving = False
        self._waiting = [0] * len(LANE_ROWS)
        self._misses = [0] * len(LANE_ROWS)
        self._not_before = [0.0] * len(LANE_ROWS)
        self._held: list[_Held] = []
        self._last: dict[int, _Held] = {}
        self._unspent: Counter[str] = Counter()
        self._own: set[str] = set()

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
                    rest = self._not_before[rank] - time.monotonic()
                    if left <= 0:
                        raise BudgetExhausted(max(1, math.ceil(rest)))
                    if self._reserving:
                        self._state.wait(left)
                    elif rest > 0:
                        self._state.wait(min(left, rest))
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

    def _reserve(self, asking: int) -> None:
        """Ask for blocks, with the lock given up meanwhile; whoever waits is woken after that."""
        demands, unspent = self._demands(asking), Counter(self._unspent)
        self._reserving = True
        self._state.release()
        got: list[_Held] = []
        try:
            got = self._draw(demands, unspent)
        finally:
            self._state.acquire()
            self._reserving = False
            self._state.notify_all()
        self._held += got
        self._last |= {held.rank: held for held in got}
        served = {held.rank: held.left for held in got}
        for demand in demands:
            if served.get(demand.rank, 0) < min(demand.wanted, _CRUMB):
                rest = self._rest(demand)
            else:
                self._misses[demand.rank] = 0
                # Where others take too, they get their turn.
                rest = self._jitter(0.2, 0.6) if self._row.contended and not LANE_ROWS[demand.rank].shares else 0.0
            self._not_before[demand.rank] = time.monotonic() + rest

    def _demands(self, asking: int) -> list[_Demand]:
        """For the lane that asks, and each that waits or keeps spending: one write serves them all. Last lane first."""
        stocked, now = {held.rank for held in self._held}, time.monotonic()
        demands = []
        for rank in reversed(range(len(LANE_ROWS))):
            last, hold = self._last.get(rank), LANE_ROWS[rank].hold * self._terms.scale
            busy = last is not None and last.left < last.block.count and now < last.until + hold
            if rank == asking or (rank not in stocked and (self._waiting[rank] or busy)):
                pace = last.pace(hold) if last else 1 if LANE_ROWS[rank].shares else _GOOD_BLOCK
                wanted = min(self._terms.largest_block, max(1, pace, self._waiting[rank]))
                demands.append(_Demand(rank, wanted, self._waiting[rank]))
        return demands

    def _rest(self, demand: _Demand) -> float:
        """
        Seconds until asking again is worth a storage call, for a lane that got nothing.

        All processes know the same moments, so that most of them would come in vain. Later lanes wait for a good
        part of a block and for room that this process made itself; who has made none comes first.
        """
        lane, terms, now = LANE_ROWS[demand.rank], self._terms, self._clock()
        seen = (self._row.seen or Ledger()).at(now, terms)
        worth = max(1, demand.wanted // 4) if lane.shares else min(demand.wanted, _GOOD_BLOCK)
        moment = seen.free_at(lane, worth, now, terms)
        own = [block.end + terms.memory for block in seen.blocks if block.id in self._own]
        if not own:
            return moment - now + self._jitter(0.05, 0.4)
        if not lane.shares and moment > now:
            moment = max(moment, min(own))
        self._misses[demand.rank] += 1
        return moment - now + self._jitter(0.4, min(2.0 ** self._misses[demand.rank], _LONGEST_REST_SECONDS))

    def _jitter(self, least: float, most: float) -> float:
        return random.uniform(least, most) * self._terms.scale  # noqa: S311 - no secret

    def _draw(self, demands: Sequence[_Demand], unspent: Counter[str]) -> list[_Held]:
        """Reserve blocks in the row; nothing when there is no room, or when others kept coming first."""
        row, looked = self._row, False
        for _ in range(_TRIES):
            own, now = time.monotonic(), self._clock()
            base = row.seen.at(now, self._terms).less(unspent) if row.seen else Ledger()
            blocks = self._portions(base, demands, now)
            if row.seen is not None and not blocks:
                return []
            if row.seen is None or (row.contended and not looked):
                row.look()
                looked = True
                continue
            try:
                done = row.swap(Ledger((*base.blocks, *blocks.values())))
            except StorageUnavailable:
                # It may have worked: giving the same calls back again would hand them out twice.
                self._forget(unspent)
                raise
            if done:
                self._forget(unspent)
                self._own = {block.id for block in base.blocks if block.id in self._own}
                self._own |= {block.id for block in blocks.values()}
                until = {rank: own + block.end - now for rank, block in blocks.items()}
                return [_Held(rank, block, block.count, own, until[rank]) for rank, block in blocks.items()]
            looked = False
            threading.Event().wait(random.uniform(0.01, 0.06))  # noqa: S311 - no secret
        return []

    def _portions(self, base: Ledger, demands: Sequence[_Demand], now: float) -> dict[int, Block]:
        """A block for each lane that there is room for, by its rank."""
        blocks: dict[int, Block] = {}
        left = self._terms.largest_block
        for demand in demands:
            lane = LANE_ROWS[demand.rank]
            room = Ledger((*base.blocks, *blocks.values())).room(lane, now, self._terms)
            if lane.shares:
                # It may use the other lanes' blocks as well.
                share = max(demand.waiting, _CRUMB, min(math.ceil(room / 2), _GOOD_BLOCK if blocks else room))
            elif demand.rank in self._last:
                share = left
            else:
                share = max(demand.waiting, _CRUMB, room // 8)
            count = min(demand.wanted, share, room)
            if count > 0:
                left = max(0, left - count)
                blocks[demand.rank] = Block(token_hex(4), now + lane.hold * self._terms.scale, count)
        return blocks

    def _forget(self, unspent: Counter[str]) -> None:
        with self._state:
            self._unspent -= unspent
