"""Values that a process makes once, when they are first asked for, also by many threads at once."""

from __future__ import annotations

from functools import cache, wraps
from threading import RLock
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
Made = TypeVar("Made")


def once(make: Callable[P, Made]) -> Callable[P, Made]:
    """
    Keep what a maker returned for the life of the process, one for each set of arguments; errors are not kept.

    Unlike a cache, it never makes a second one for a thread that asks while the first is being made. Its `forget` drops
    all that is kept.
    """
    kept, lock = cache(make), RLock()

    @wraps(make)
    def ask(*args: P.args, **options: P.kwargs) -> Made:
        with lock:
            return kept(*args, **options)  # type: ignore[arg-type]

    ask.forget = kept.cache_clear  # type: ignore[attr-defined]
    return ask
