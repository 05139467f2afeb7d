"""What a process has one of, also when many threads are the first to ask for it."""

from __future__ import annotations

from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
Made = TypeVar("Made")


class once(Generic[P, Made]):  # noqa: N801 - a decorator
    """
    Keeps what a maker made for the life of the process, one for each set of arguments; errors are not kept.

    Unlike a cache, it never makes a second one for a thread that asks while the first is being made.
    """

    def __init__(self, make: Callable[P, Made]) -> None:
        self._kept = cache(make)
        self._lock = RLock()
        self.__doc__ = make.__doc__

    def __call__(self, *args: P.args, **options: P.kwargs) -> Made:
        with self._lock:
            return self._kept(*args, **options)  # type: ignore[arg-type]

    def forget(self) -> None:
        """Drop all that is kept; what is asked for next is made again."""
        self._kept.cache_clear()
