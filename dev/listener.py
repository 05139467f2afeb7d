"""A subscriber on this machine that keeps its requests and gives chosen answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from dev import server
from dev.server import Request

Answer = tuple[int, dict[str, str]]


class Listener:
    """An HTTP server; `answer` is a status, or returns the status and headers for a request, and may block."""

    def __init__(self, answer: Callable[[Request], Answer] | int = 200) -> None:
        self.answer = answer
        self.received: list[Request] = []
        self._changed = threading.Condition()
        self._server = server.Server(self._take)
        self._server.start()

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self._server.url

    @property
    def url(self) -> str:
        """An address below `origin`."""
        return f"{self.origin}/hook"

    def wait_for(self, condition: Callable[[list[Request]], bool], seconds: float = 10) -> list[Request]:
        """Return the requests as soon as the condition holds for them; AssertionError after `seconds`."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.received), seconds), len(self.received)
            return list(self.received)

    def wait(self, count: int, seconds: float = 10) -> list[Request]:
        """Return the requests as soon as there are `count` or more."""
        return self.wait_for(lambda received: len(received) >= count, seconds)

    def on(self, path: str) -> list[Request]:
        """Return the requests to a path."""
        return [request for request in self.received if request.path == path]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.close()

    def _take(self, request: Request) -> server.Answer:
        with self._changed:
            self.received.append(request)
            self._changed.notify_all()
        status, headers = (self.answer, {}) if isinstance(self.answer, int) else self.answer(request)
        return server.Answer(status, b"ok", headers=headers)
