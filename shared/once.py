"""What a process makes and loads when it is first asked for, also by many threads at once."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

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


def later(path: str) -> Callable[..., Any]:
    """The function at a dotted path; its module is imported by the first call, and no cold start waits for it."""
    module, _, name = path.rpartition(".")

    def work(*args: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*args, **options)

    work.__name__ = path
    return work
