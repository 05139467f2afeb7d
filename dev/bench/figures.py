"""A measured figure, and how rounds become one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table: what was measured, against what, the value, the goal, and whether it is met."""

    name: str
    against: str
    value: float
    goal: str
    ok: bool


def at_least(name: str, against: str, value: float, goal: float) -> Figure:
    """Return a figure that has to reach its goal."""
    return Figure(name, against, value, f"≥ {goal:g}", value >= goal)


def at_most(name: str, against: str, value: float, goal: float) -> Figure:
    """Return a figure that must not pass its goal."""
    return Figure(name, against, value, f"≤ {goal:g}", value <= goal)


def seconds(work: Callable[[], object]) -> float:
    """Return how long the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_ratio(ours: Callable[[], float], limit: Callable[[], float], rounds: int = ROUNDS) -> float:
    """Return the median of ours/limit over rounds that take turns, so that both meet the same machine."""
    limit(), ours()
    ratios = []
    for _ in range(rounds):
        below = limit()
        ratios.append(ours() / below)
    return statistics.median(ratios)
