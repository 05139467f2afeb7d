"""A measured figure, and the median of rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the report; `ok` is True if the value meets the goal."""

    name: str
    against: str
    value: float
    goal: str
    ok: bool


def at_least(name: str, against: str, value: float, goal: float) -> Figure:
    """Return a figure whose value must be the goal or more."""
    return Figure(name, against, value, f"≥ {goal:g}", value >= goal)


def at_most(name: str, against: str, value: float, goal: float) -> Figure:
    """Return a figure whose value must be the goal or less."""
    return Figure(name, against, value, f"≤ {goal:g}", value <= goal)


def seconds(work: Callable[[], object]) -> float:
    """Return the duration of the work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_ratio(ours: Callable[[], float], limit: Callable[[], float], rounds: int = ROUNDS) -> float:
    """Return the median of ours/limit over rounds of both, so that both run under the same load."""
    limit(), ours()
    ratios = []
    for _ in range(rounds):
        least = limit()
        ratios.append(ours() / least)
    return statistics.median(ratios)
