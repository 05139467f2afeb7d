"""A session of storage or of the PBX's client that dies at a chosen request, as a killed process does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter

from shared.pbx.client import Pbx
from shared.storage.account import Storage

if TYPE_CHECKING:
    import requests


class Killed(BaseException):
    """Nothing in the app may catch this: the process is gone."""


class DyingAdapter(HTTPAdapter):
    """
    Counts requests; at number `at` it dies, before the request is sent or after it took effect.

    What a timer writes in the background is no step of the work, and is not counted.
    """

    def __init__(self, at: int, *, after: bool) -> None:
        super().__init__(pool_maxsize=8)
        self.at, self.after, self.count = at, after, 0

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        if isinstance(threading.current_thread(), threading.Timer):
            return super().send(request, *args, **options)
        self.count += 1
        if self.count == self.at and not self.after:
            raise Killed
        response = super().send(request, *args, **options)
        if self.count == self.at:
            response.close()
            raise Killed
        return response


def die_at(side: Storage | Pbx, at: int, *, after: bool) -> DyingAdapter:
    """Have this side die at its request number `at` (0: never); returns the adapter, which counts."""
    adapter = DyingAdapter(at, after=after)
    side._session.mount("http://", adapter)
    return adapter


def is_killed(
    side: Storage | Pbx, at: int, work: Callable[..., object], /, *args: Any, after: bool, **options: Any
) -> bool:
    """Return True if work dies at its request number `at` to this side; where it makes fewer it is done."""
    adapter = die_at(side, at, after=after)
    try:
        work(*args, **options)
    except Killed:
        return True
    assert adapter.count < at
    return False
