"""A bound on the time that storage may take for one piece of work: all requests, and the SDK's retries, together."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

# The SDK's pause before each of its own retries.
RETRY_SECONDS = 1
_end: ContextVar[float] = ContextVar("end", default=math.inf)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """
    Give storage so many seconds for what this thread asks of it inside; then StorageUnavailable is raised.

    It is raised sooner where the SDK would wait for its next try longer than that.
    """
    token = _end.set(min(_end.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _end.reset(token)


@contextmanager
def bounded(options: dict[str, Any], connect: float, read: float) -> Iterator[None]:
    """Send a request inside with the timeouts in `options` cut to what is left; `connect` and `read` are the usual."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    left = _end.get() - time.monotonic()
    if left <= 0:
        raise StorageUnavailable("storage took too long")
    if left < connect + read:
        options["connection_timeout"] = min(options.get("connection_timeout", connect), left)
        options["read_timeout"] = min(options.get("read_timeout", read), left)
    try:
        yield
    except (ServiceRequestError, ServiceResponseError) as error:
        if time.monotonic() + RETRY_SECONDS < _end.get():
            raise
        # No error that the SDK would try again.
        raise StorageUnavailable("storage took too long") from error
