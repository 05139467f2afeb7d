"""What a process makes and loads when it is first asked for, also by many threads at once."""

from __future__ import annotations

from functools import cache, wraps
from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
Made = TypeVar("Made")


def once(make: Callable[P, Made]) -> Callable[P, Made]:
    """
    Keeps what a maker made for the life of the process, one for each set of arguments; errors are not kept.

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


def later(path: str) -> Callable[..., Any]:
    """The function at a dotted path; its module is imported by the first call, and no cold start waits for it."""
    module, _, name = path.rpartition(".")

    def work(*args: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*args, **options)

    work.__name__ = path
    return work
