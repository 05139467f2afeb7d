"""The ledger's arithmetic: no window holds more than the limit, and what it says of the future is true."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from shared.pbx.budget import ledger as ledgers
from shared.pbx.budget.ledger import LANE_ROWS, Block, Lane, Ledger, Terms

TERMS = Terms()
NOW = 1_800_000_000.0
ACTION, MEDIA, POLL, BACKFILL = LANE_ROWS


def filled(*blocks: tuple[float, int]) -> Ledger:
    """Blocks as (seconds from now to their end, count)."""
    return Ledger(tuple(Block(f"b{index}", NOW + end, count) for index, (end, count) in enumerate(blocks)))


@pytest.mark.parametrize(("lane", "room"), [(ACTION, 100), (MEDIA, 80), (POLL, 75), (BACKFILL, 55)])
def test_each_lane_leaves_the_last_calls_to_those_above(lane: Lane, room: int) -> None:
    assert Ledger().room(lane, NOW, TERMS) == room
    assert filled((0, 35)).room(lane, NOW, TERMS) == room - 35
    assert filled((0, 100)).room(lane, NOW, TERMS) == 0


def test_a_block_counts_for_a_window_and_a_margin_after_its_end() -> None:
    block = filled((0, 100))
    assert block.room(ACTION, NOW + 62.9, TERMS) == 0
    assert block.room(ACTION, NOW + 63.1, TERMS) == 100


@pytest.mark.parametrize("seed", range(50))
def test_calls_are_free_when_the_ledger_says_so_and_not_before(seed: int) -> None:
    chance = random.Random(seed)
    blocks = filled(*((chance.uniform(-70, 20), chance.randint(1, 20)) for _ in range(chance.randint(0, 12))))
    lane, wanted = chance.choice(LANE_ROWS), chance.randint(1, 20)
    moment = blocks.free_at(lane, wanted, NOW, TERMS)
    assert blocks.room(lane, moment, TERMS) >= wanted
    if moment > NOW:
        assert blocks.room(lane, moment - 0.001, TERMS) < wanted


def test_a_block_counts_as_it_was_spent_once_that_is_known() -> None:
    spent = {"b0": Block("b0", NOW - 2, 8), "b1": Block("b1", NOW, 0), "gone": Block("gone", NOW, 3)}
    assert filled((0, 20), (1, 5), (2, 4)).settled(spent).blocks == (Block("b0", NOW - 2, 8), Block("b2", NOW + 2, 4))


def test_the_ledger_survives_being_written() -> None:
    before = filled((0, 20), (1.5, 3))
    assert ledgers.read(ledgers.write(before), NOW, TERMS) == before


@pytest.mark.parametrize(
    "text", [None, 7, "", "{", "7", "[1]", '[["a"]]', '[["a","b","c"]]', '[["a",1e999,1]]'], ids=repr
)
def test_a_row_that_means_nothing_counts_as_a_limit_just_spent(text: object) -> None:
    ledger = ledgers.read(text, NOW, TERMS)
    assert ledger.room(ACTION, NOW + 62, TERMS) == 0
    assert ledger.room(ACTION, NOW + 64, TERMS) == 100


def test_a_block_from_a_wrong_clock_does_not_lock_everybody_out() -> None:
    text = ledgers.write(filled((86_400, 100)))
    assert ledgers.read(text, NOW, TERMS).free_at(ACTION, 1, NOW, TERMS) < NOW + 135


@dataclass
class Process:
    """A process whose clock is off, with what it holds: calls left, by its own clock until then."""

    skew: float
    left: int = 0
    until: float = 0.0


@pytest.mark.parametrize("seed", range(12))
def test_no_window_of_sixty_seconds_holds_more_than_the_limit(seed: int) -> None:
    """Clocks off by one second either way, tokens spent at the last moment, calls a second on their way."""
    chance = random.Random(seed)
    crew = [Process(skew) for skew in (-1.0, 0.0, 1.0)]
    ledger, arrivals, moment = Ledger(), [], NOW
    while moment < NOW + 400:
        moment += chance.choice([0.001, 0.01, 0.5, 1.9])
        process = chance.choice(crew)
        own = moment + process.skew
        if process.left and own < process.until:
            spent = chance.randint(1, process.left)
            process.left -= spent
            arrivals += [moment + chance.uniform(0, 1) for _ in range(spent)]
            continue
        lane = chance.choice(LANE_ROWS)
        ledger = ledger.at(own, TERMS)
        count = min(ledger.room(lane, own, TERMS), chance.randint(1, 20))
        if count:
            ledger = Ledger((*ledger.blocks, Block(str(moment), own + lane.hold, count)))
            process.left, process.until = count, own + lane.hold
    arrivals.sort()
    assert len(arrivals) > 300
    assert not [at for at, later in zip(arrivals, arrivals[100:], strict=False) if later - at < 60]
