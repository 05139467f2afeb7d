"""Threads for the storage SDK's blocking calls; none of them may wait for a thread that runs a function."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="storage")


async def threaded(call: Callable[[], T]) -> T:
    """What the call returns or raises, without holding up the loop."""
    return await asyncio.get_running_loop().run_in_executor(_threads, call)
