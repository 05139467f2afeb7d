"""The ledger of the PBX's call budget: which blocks of calls were handed out, and when they free up again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Lane:
    """
    A row: a kind of caller, the calls it must leave to those above it, for how long a block of it may be spent,
    the block that it takes before its pace is known, and the most that it takes at once (see ADR 0005).

    A block above twice `first` is for a burst and held briefly.
    """

    name: str
    floor: int
    hold: float  # seconds
    first: int
    most: int


LANE_ROWS: tuple[Lane, ...] = (
    Lane("action", floor=0, hold=66.0, first=4, most=20),
    Lane("media", floor=20, hold=5.0, first=15, most=30),
    Lane("poll", floor=25, hold=5.0, first=15, most=30),
    Lane("backfill", floor=45, hold=5.0, first=15, most=30),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """
    What the PBX allows and how we stay below it; times in seconds, all of them stretched by `scale`.

    `margin` is kept clear after the window: 2 s for clocks that differ by that much between processes, and 1 s
    for a call that reaches the PBX later than its token was taken. `burst` is for how long a large block is held.
    """

    limit: int = 100
    window: float = 60.0
    margin: float = 3.0
    patience: float = 2.0
    burst: float = 5.0
    scale: float = 1.0

    @property
    def memory(self) -> float:
        """Seconds for which a call counts once its block can no longer be spent."""
        return (self.window + self.margin) * self.scale


@dataclass(frozen=True, slots=True)
class Block:
    """Calls that one process may make until `end`, in seconds since 1970 by its own clock."""

    id: str
    end: float
    count: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """
    The blocks that count: a call is made before its block's end at the latest, and counts until `memory` after that.

    Their counts never add up to more than the limit, so that no window of 60 s holds more calls (see ADR 0005).
    """

    blocks: tuple[Block, ...] = ()

    def at(self, now: float, terms: Terms) -> Ledger:
        """The ledger without blocks that no longer count."""
        return Ledger(tuple(block for block in self.blocks if block.end + terms.memory > now))

    @property
    def used(self) -> int:
        """Calls that count."""
        return sum(block.count for block in self.blocks)

    def room(self, lane: Lane, now: float, terms: Terms) -> int:
        """How many calls the lane may still be given."""
        return max(0, terms.limit - lane.floor - self.at(now, terms).used)

    def free_at(self, lane: Lane, wanted: int, now: float, terms: Terms) -> float:
        """The first moment at which the lane may be given `wanted` calls, if nobody takes any before."""
        counted = self.at(now, terms)
        missing = counted.used - max(0, terms.limit - lane.floor - wanted)
        return counted.freed_at(missing, terms) if missing > 0 else now

    def freed_at(self, wanted: int, terms: Terms) -> float:
        """The moment at which so many of these calls no longer count, or all of them where they are fewer."""
        moment = 0.0
        for block in sorted(self.blocks, key=lambda block: block.end):
            moment = block.end + terms.memory
            wanted -= block.count
            if wanted <= 0:
                break
        return moment

    def settled(self, done: Mapping[str, Block]) -> Ledger:
        """The ledger with these in place of blocks of the same ids; those without calls are gone."""
        kept = (done.get(block.id, block) for block in self.blocks)
        return Ledger(tuple(block for block in kept if block.count > 0))


def write(ledger: Ledger) -> str:
    """The ledger as text: `[[id, end in milliseconds, count], …]`."""
    return json.dumps([[block.id, round(block.end * 1000), block.count] for block in ledger.blocks])


def read(text: object, now: float, terms: Terms) -> Ledger:
    """
    The ledger in a row's text.

    Blocks that end later than any clock explains are taken to end as late as they can; text that means nothing
    counts as a whole limit spent just now. Both only ever ask for more patience.
    """
    latest = now + (max(lane.hold for lane in LANE_ROWS) + terms.margin) * terms.scale
    try:
        rows = json.loads(text if isinstance(text, str) else "")
        blocks = tuple(Block(str(id), min(int(end) / 1000, latest), max(0, int(count))) for id, end, count in rows)
    except (ValueError, TypeError, OverflowError):
        return Ledger((Block("unread", now, terms.limit),))
    return Ledger(blocks)
