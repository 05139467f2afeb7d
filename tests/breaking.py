"""A storage session whose connections break at chosen requests, before they are sent or after they took effect."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from shared.storage.account import Storage


class BreakingAdapter(HTTPAdapter):
    """Breaks the first `times` requests that it is asked to; `sent` lists method and address of all."""

    def __init__(self, chosen: Callable[[requests.PreparedRequest], bool], times: int, *, after: bool) -> None:
        super().__init__(pool_maxsize=16)
        self.chosen, self.left, self.after = chosen, times, after
        self.sent: list[str] = []
        self.then: Callable[[], object] | None = None

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.sent.append(f"{request.method} {request.url}")
        if self.left <= 0 or not self.chosen(request):
            return super().send(request, *args, **options)
        self.left -= 1
        if self.after:
            super().send(request, *args, **options).close()
        if self.then is not None:
            self.then()
        raise requests.exceptions.ConnectionError("the connection broke")


def break_requests(
    storage: Storage, chosen: Callable[[requests.PreparedRequest], bool], times: int, *, after: bool
) -> BreakingAdapter:
    """Break the next requests that are chosen."""
    adapter = BreakingAdapter(chosen, times, after=after)
    storage._session.mount("http://", adapter)
    return adapter


def break_connections(
    storage: Storage, method: str, part: str = "", *, times: int = 1, after: bool = True
) -> BreakingAdapter:
    """
    Break the next requests of this method whose address has `part` in it.

    With `after` the request took effect and its answer is lost. `then` of the adapter is called right before.
    """
    return break_requests(storage, lambda one: one.method == method and part in (one.url or ""), times, after=after)


def break_write(storage: Storage, number: int, *, after: bool = True) -> BreakingAdapter:
    """Break the write of this number, counted from 1; where there are fewer the adapter has one `left` afterwards."""
    writes = itertools.count(1)
    return break_requests(storage, lambda one: one.method != "GET" and next(writes) == number, 1, after=after)
