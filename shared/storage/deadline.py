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

_end: ContextVar[float] = ContextVar("end", default=math.inf)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """
    Give storage so many seconds for what this thread asks of it inside; then StorageUnavailable is raised.

    The SDK may be waiting to try again when they are over: that is a second more at most.
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
        if time.monotonic() < _end.get():
            raise
        # No error that the SDK would try again.
        raise StorageUnavailable("storage took too long") from error
