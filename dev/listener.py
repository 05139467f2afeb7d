"""A subscriber on this machine that keeps what it is sent, and gives the answers it is made with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from dev import server
from dev.server import Request

Answer = tuple[int, dict[str, str]]


class Listener:
    """An HTTP server; `answer` gives the status and headers for a request and may take its time."""

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
        """An address at which it may be called."""
        return f"{self.origin}/hook"

    def wait_for(self, condition: Callable[[list[Request]], bool], seconds: float = 10) -> list[Request]:
        """Return what was received as soon as the condition holds for it; fail when the time is over."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.received), seconds), len(self.received)
            return list(self.received)

    def wait(self, count: int, seconds: float = 10) -> list[Request]:
        """Return the first so many requests."""
        return self.wait_for(lambda received: len(received) >= count, seconds)

    def on(self, path: str) -> list[Request]:
        """Return what was received at a path."""
        return [one for one in self.received if one.path == path]

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
