"""Work that is loaded when it is first asked for: a cold start waits for nothing that another trigger needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def later(path: str) -> Callable[..., Any]:
    """The function at a dotted path; its module is imported by the first call."""
    module, _, name = path.rpartition(".")

    def work(*args: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*args, **options)

    work.__name__ = path
    return work
