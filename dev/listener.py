"""A subscriber on this machine that keeps what it is sent, and gives the answers it is made with."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Answer = tuple[int, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Received:
    """One request: its path, its headers in lower case, its body, when it came (monotonic seconds), from which port."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    time: float
    port: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def json(self) -> Any:
        return json.loads(self.body)


class Listener:
    """An HTTP server; `answer` gives the status and headers for a request and may take its time."""

    def __init__(self, answer: Callable[[Received], Answer] | int = 200) -> None:
        self.answer = answer
        self.received: list[Received] = []
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """Where it may be called."""
        return f"{self.origin}/hook"

    def wait_for(self, condition: Callable[[list[Received]], bool], seconds: float = 10) -> list[Received]:
        """What was received as soon as the condition holds for it; fails when the time is over."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.received), seconds), len(self.received)
            return list(self.received)

    def wait(self, count: int, seconds: float = 10) -> list[Received]:
        """The first so many requests."""
        return self.wait_for(lambda received: len(received) >= count, seconds)

    def on(self, path: str) -> list[Received]:
        """What came at a path."""
        return [one for one in self.received if one.path == path]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _take(self, received: Received) -> Answer:
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
        return (self.answer, {}) if isinstance(self.answer, int) else self.answer(received)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Two small writes must not wait for an acknowledgement of the first.
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, more = listener._take(
                    Received(self.path, headers, body, time.monotonic(), self.client_address[1])
                )
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_arguments: Any) -> None:
                """Silent: a test says by itself what went wrong."""

        return Handler
