"""A service that says nothing is asked by one at a time: whoever waits for it keeps a thread from everybody else."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# So many requests in a row without an answer, each of them waited for so long.
SILENCES, SILENCE_SECONDS = 3, 1.0
# How long nobody asks after that; then one request looks whether the service is back.
REST_SECONDS = 2.0
# While one looks the others go on failing, and for no longer than this where it never comes back.
_LOOK_SECONDS = 12.0


class Breaker:
    """
    What this process knows of one service; for many threads.

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
            self._failed(began)
            raise
        with self._lock:
            self._silences = 0

    def _failed(self, began: float) -> None:
        now = self._clock()
        with self._lock:
            # A refusal says no more than that it is still not there.
            self._silences += now - began >= SILENCE_SECONDS
            self._rest_until = now + REST_SECONDS
