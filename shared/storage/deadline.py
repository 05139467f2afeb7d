"""How long storage may keep a thread: a bound for each piece of work, and for a service that says nothing."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The SDK's pause before each of its own retries.
RETRY_SECONDS = 1
# So many requests in a row without an answer, each of them waited for so long.
SILENCES, SILENCE_SECONDS = 3, 1.0
# How long nobody asks after that; then one request looks whether the service is back.
REST_SECONDS = 2.0
# While one looks the others go on failing, and for no longer than this where it never comes back.
_LOOK_SECONDS = 12.0
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


class Breaker:
    """
    What this process knows of one service; for many threads: one that says nothing is asked by one at a time.

    Failures that come at once (refused, reset) cost no thread, and are left to the SDK's own retries.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._silences = 0
        self._rest_until = 0.0

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Send a request inside; raises StorageUnavailable at once while the service is silent."""
        from azure.core.exceptions import ServiceRequestError, ServiceResponseError

        began = self._clock()
        with self._lock:
            if self._silences >= SILENCES:
                if began < self._rest_until:
                    raise StorageUnavailable("storage does not answer")
                self._rest_until = began + _LOOK_SECONDS
        try:
            yield
        except (ServiceRequestError, ServiceResponseError):
            now = self._clock()
            with self._lock:
                # A refusal says no more than that it is still not there.
                self._silences += now - began >= SILENCE_SECONDS
                self._rest_until = now + REST_SECONDS
            raise
        with self._lock:
            self._silences = 0
