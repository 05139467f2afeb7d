"""Measure how the time of a function grows with the length of its text."""

from __future__ import annotations

import time
from collections.abc import Callable

SMALL, LARGE = 5_000, 40_000
# Eight times the text takes eight times as long in linear time, and 64 times in quadratic time.
LINEAR = 24
_TOO_SHORT_TO_TELL = 0.005


def growth(run: Callable[[int], object]) -> float:
    """Return the ratio of CPU times for texts of LARGE and of SMALL characters, in this thread."""
    if _seconds(run, LARGE) < _TOO_SHORT_TO_TELL:
        return 1.0
    large, small = (min(_seconds(run, size) for _ in range(3)) for size in (LARGE, SMALL))
    return large / max(small, 1e-6)


def _seconds(run: Callable[[int], object], size: int) -> float:
    start = time.thread_time()
    run(size)
    return time.thread_time() - start
