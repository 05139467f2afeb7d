"""One budget of PBX calls for all functions and instances: at most 100 in any 60 seconds."""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import TYPE_CHECKING

from shared.errors import BudgetExhausted
from shared.pbx.budget.ledger import LANE_ROWS, Block, Ledger, Terms
from shared.pbx.budget.row import LedgerRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set

    from shared.storage.account import Storage

LANES = tuple(lane.name for lane in LANE_ROWS)
_RANK = {name: rank for rank, name in enumerate(LANES)}
_TRIES = 8
# Less is not worth a look at the row and a write to it, to a lane that can use more.
_GOOD_BLOCK = 12


@dataclass(slots=True)
class _Held:
    """A block in this process's hands: whose it is, what is left of it, and when by the process's own time."""

    rank: int
    block: Block
    left: int
    taken: float
    until: float
    spent: float  # when the last call of it was made, by the clock that all processes share
    missed: float | None = None

    def pace(self, hold: float) -> int:
        """Calls that its lane would spend in so many seconds."""
        spent_for = max(min(self.missed or self.until, self.until) - self.taken, 0.001)
        return math.ceil((self.block.count - self.left) * hold / spent_for)


class Budget:
    """
    Hands out the calls that all processes with the same account may make together; safe for many threads.

    Calls are reserved in blocks that live in memory for seconds and grow with the pace at which the process spends
    them (see ADR 0005). With storage out of reach no call is handed out.
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
        self._not_before = [0.0] * len(LANE_ROWS)
        self._held: list[_Held] = []
        self._last: dict[int, _Held] = {}
        self._done: dict[str, Block] = {}
        self._name = token_hex(4)
        self._numbers = itertools.count(1)

    def take(self, lane: str) -> None:
        """
        Return once one call of this lane may be made, within the next second.

        Lanes come in the order of LANES: whoever waits in an earlier one is served first, and later ones leave the
        last calls to them. Raises BudgetExhausted when none came within 2 s, or for all but actions at once when it is
        known that none will, so that they hold up no thread; and StorageUnavailable.
        """
        rank = _RANK[lane]
        deadline = time.monotonic() + self._terms.patience * self._terms.scale
        with self._state:
            self._waiting[rank] += 1
            try:
                while not self._spend(rank):
                    left = deadline - time.monotonic()
                    rest = self._not_before[rank] - time.monotonic()
                    if left <= 0 or (rank and rest > left and not self._reserving):
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
            if last and last.missed is None:
                last.missed = time.monotonic()
            return False
        held = min(usable, key=lambda held: held.rank)
        held.left -= 1
        # The machine's clock may jump and the process's own may stand still in its sleep: the later one counts.
        held.spent = min(max(self._clock(), held.block.end - (held.until - time.monotonic())), held.block.end)
        if not held.left:
            self._settle(held)
        return True

    def _drop_expired(self) -> None:
        # Of the two clocks the stricter one counts.
        wall, own = self._clock(), time.monotonic()
        for held in [held for held in self._held if own >= held.until or wall >= held.block.end]:
            self._settle(held)

    def _settle(self, held: _Held) -> None:
        """Note how many calls of a block were made, and by when: the next write says it."""
        self._held.remove(held)
        self._done[held.block.id] = replace(held.block, end=held.spent, count=held.block.count - held.left)

    def _reserve(self, asking: int) -> None:
        """Ask for blocks, with the lock given up meanwhile; whoever waits is woken after that."""
        demands, done = self._demands(asking), dict(self._done)
        needed = {rank for rank in demands if rank == asking or self._waiting[rank]}
        self._reserving = True
        self._state.release()
        got: list[_Held] = []
        try:
            got = self._draw(demands, needed, done)
        finally:
            self._state.acquire()
            self._reserving = False
            self._state.notify_all()
        if got:
            self._done = {id: made for id, made in self._done.items() if id not in done}
        self._held += got
        self._last |= {held.rank: held for held in got}
        served = {held.rank for held in got}
        for rank, wanted in demands.items():
            # Where others take too, they get their turn.
            turn = self._jitter(0.2, 0.6) if self._row.contended else 0.0
            self._not_before[rank] = time.monotonic() + (turn if rank in served else self._rest(rank, wanted))

    def _demands(self, asking: int) -> dict[int, int]:
        """Calls wanted by the lane that asks, and each that waits or keeps spending: one write serves them all."""
        now, demands = time.monotonic(), {}
        for rank, lane in enumerate(LANE_ROWS):
            last, hold = self._last.get(rank), lane.hold * self._terms.scale
            stock = sum(held.left for held in self._held if held.rank == rank)
            busy = last is not None and last.left < last.block.count and now < last.until + hold
            if rank == asking or self._waiting[rank] or busy:
                pace = last.pace(hold) if last else 0
                wanted = min(lane.most, max(lane.first, pace, self._waiting[rank]))
                if rank == asking or wanted > (2 * stock if rank else stock):
                    demands[rank] = max(1, wanted - stock)
        return demands

    def _rest(self, rank: int, wanted: int) -> float:
        """Seconds until asking again is worth a storage call, for a lane that got nothing (see ADR 0005)."""
        terms, now = self._terms, self._clock()
        seen = (self._row.seen or Ledger()).settled(self._done).at(now, terms)
        moment = seen.free_at(LANE_ROWS[rank], self._worth(rank, wanted) or 1, now, terms)
        own = Ledger(tuple(block for block in seen.blocks if block.id.startswith(self._name)))
        if own.blocks and (worth := self._worth(rank, wanted)):
            moment = max(moment, own.freed_at(worth, terms))
        # Blocks that others still hold may free up sooner than the row says.
        bounds = (0.8, 2.5) if own.blocks and rank else (0.05, 0.4)
        return min(moment - now, terms.memory) + self._jitter(*bounds)

    def _worth(self, rank: int, wanted: int) -> int:
        """The least that a lane asks for while others draw too; actions take what there is."""
        return _GOOD_BLOCK if rank and wanted >= _GOOD_BLOCK and self._row.contended else 0

    def _jitter(self, least: float, most: float) -> float:
        return random.uniform(least, most) * self._terms.scale  # noqa: S311 - no secret

    def _draw(self, demands: Mapping[int, int], needed: Set[int], done: Mapping[str, Block]) -> list[_Held]:
        """
        Reserve blocks in the row; nothing when there is no room, or when others kept coming first.

        Lanes that nobody waits in are served only beside one of those `needed`.
        """
        row, looked = self._row, False
        for _ in range(_TRIES):
            own, now = time.monotonic(), self._clock()
            base = row.seen.settled(done).at(now, self._terms) if row.seen else Ledger()
            blocks = self._portions(base, demands, now)
            if row.seen is not None and not blocks.keys() & needed:
                return []
            if row.seen is None or (row.contended and not looked):
                row.look()
                looked = True
                continue
            if row.swap(Ledger((*base.blocks, *blocks.values()))):
                return [
                    _Held(rank, block, block.count, own, own + block.end - now, now) for rank, block in blocks.items()
                ]
            threading.Event().wait(random.uniform(0.01, 0.06))  # noqa: S311 - no secret
        return []

    def _portions(self, base: Ledger, demands: Mapping[int, int], now: float) -> dict[int, Block]:
        """A block for each lane that there is room for, by its rank."""
        blocks: dict[int, Block] = {}
        for rank, wanted in demands.items():
            lane = LANE_ROWS[rank]
            count = min(wanted, Ledger((*base.blocks, *blocks.values())).room(lane, now, self._terms))
            if count > 0 and count >= self._worth(rank, wanted):
                hold = lane.hold if count <= 2 * lane.first else min(lane.hold, self._terms.burst)
                end = now + hold * self._terms.scale
                blocks[rank] = Block(f"{self._name}-{next(self._numbers)}", end, count)
        return blocks
