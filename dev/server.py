"""A small HTTP server with a thread for each connection; its answers can be late, cut or reset."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote

_GZIP_FROM = 512  # bytes


@dataclass(frozen=True)
class Request:
    """
    A client's request.

    `path` is decoded, `target` is path and query as written; header names are in lower case, `port` is the client's,
    `time` is in monotonic seconds.
    """

    method: str
    target: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    port: int
    time: float = field(default_factory=time.monotonic)

    @property
    def arguments(self) -> dict[str, str]:
        """The query's parameters, empty ones included."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def id(self) -> str:
        """The id of the delivered event."""
        return self.headers["webhook-id"]

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


@dataclass
class Answer:
    """A response: a body in bytes, or in blocks with a `length` for the header."""

    status: int = 200
    body: bytes | Iterable[memoryview] = b""
    media_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    delay: float = 0.0  # seconds before the answer
    cut: int | None = None  # bytes of the body after which the connection closes
    reset: bool = False  # a TCP reset in place of any answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Head and body are written together, so that no small answer waits for an acknowledgement.
    wbufsize = -1
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def _respond(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length") or 0))
        port = self.client_address[1]
        answer = self.server.respond(Request(self.command, self.path, unquote(path), query, headers, body, port))
        if answer.delay:
            time.sleep(answer.delay)
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        if answer.reset or answer.cut is not None:
            self.close_connection = True
        if not answer.reset:
            self._write(answer, accepts_gzip="gzip" in headers.get("accept-encoding", ""))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _respond  # noqa: N815 - the library's names

    def _write(self, answer: Answer, *, accepts_gzip: bool) -> None:
        blocks, length = answer.body, answer.length
        if isinstance(blocks, bytes):
            if accepts_gzip and len(blocks) >= _GZIP_FROM and answer.cut is None:
                blocks = gzip.compress(blocks, 1)
                answer.headers["Content-Encoding"] = "gzip"
            length = len(blocks)
            blocks = (memoryview(blocks),)
        self.send_response_only(answer.status)
        headers = {"Content-Type": answer.media_type} | answer.headers | {"Content-Length": str(length or 0)}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        left = sys.maxsize if answer.cut is None else answer.cut
        for block in blocks:
            self.wfile.write(block[:left])
            left -= min(left, len(block))

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """Serves `respond` on a background thread from `start` to `close`, or as a context manager."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, respond: Callable[[Request], Answer], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.respond = respond
        self.connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="server", daemon=True)

    @property
    def url(self) -> str:
        """The address, without a trailing slash."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and cut the connections that are still open."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join(timeout=5)
        self.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a connection that sent no HTTP, or that its client closed."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
