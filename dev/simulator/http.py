"""A small, fast HTTP/1.1 server on a thread a connection, with the means to misbehave on purpose."""

from __future__ import annotations

import gzip
import socket
import socketserver
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_LINE = 65_536
_GZIP_FROM = 512  # bytes


@dataclass(frozen=True)
class Request:
    """A client's request; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def arguments(self) -> dict[str, str]:
        """The query's parameters, empty ones included."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(frozen=True)
class Seen:
    """A request that came in: monotonic seconds, its parts, and the HTTP status answered (0: cut off)."""

    at: float
    method: str
    path: str
    query: str
    operation: str
    status: int
    authorized: bool  # it carried an Authorization header

    @classmethod
    def of(cls, request: Request, operation: str, status: int, at: float) -> Seen:
        """Return the record of a request and its answer."""
        has_key = "authorization" in request.headers
        return cls(at, request.method, request.path, request.query, operation, status, has_key)


@dataclass
class Answer:
    """An answer: bytes, or blocks with their announced length."""

    status: int = 200
    body: bytes | Iterable[memoryview] = b""
    media_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    delay: float = 0.0  # seconds before the answer
    cut: int | None = None  # bytes of the body after which the connection closes
    reset: bool = False  # a TCP reset in place of any answer


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    wbufsize = 0
    server: Server

    def handle(self) -> None:
        try:
            while (request := self._read()) is not None:
                answer = self.server.respond(request)
                if not self._write(request, answer):
                    return
        except (ConnectionError, TimeoutError):
            return  # the client has gone

    def _read(self) -> Request | None:
        line = self.rfile.readline(MAX_LINE)
        if not line.strip():
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := self.rfile.readline(MAX_LINE)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        path, _, query = target.partition("?")
        return Request(method, unquote(path), query, headers, self.rfile.read(int(headers.get("content-length") or 0)))

    def _write(self, request: Request, answer: Answer) -> bool:
        """Send the answer; True if the connection lives on."""
        if answer.delay:
            time.sleep(answer.delay)
        if answer.reset:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.close()
            return False
        body, length = answer.body, answer.length
        if isinstance(body, bytes):
            small = len(body) < _GZIP_FROM or answer.cut is not None
            if not small and "gzip" in request.headers.get("accept-encoding", ""):
                body = gzip.compress(body, 1)
                answer.headers["Content-Encoding"] = "gzip"
            length = len(body) if length is None else length
        keep = length is not None and answer.cut is None and request.headers.get("connection", "").lower() != "close"
        head = [f"HTTP/1.1 {answer.status} Status", f"Content-Type: {answer.media_type}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        if length is not None:
            head.append(f"Content-Length: {length}")
        head.append(f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n")
        start = "\r\n".join(head).encode("latin-1")
        if isinstance(body, bytes):
            self.request.sendall(start + body[: answer.cut])
        else:
            self.request.sendall(start)
            self._stream(body, answer)
        return keep

    def _stream(self, body: Iterable[memoryview], answer: Answer) -> None:
        left = answer.cut
        for block in body:
            if left is not None:
                block, left = block[:left], left - min(left, len(block))  # noqa: PLW2901
            self.request.sendall(block)
            if left == 0:
                return


class Server(socketserver.ThreadingTCPServer):
    """Serves `respond` on a background thread until `close`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, host: str, port: int, respond: Callable[[Request], Answer]) -> None:
        super().__init__((host, port), _Connection)
        self.respond = respond
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="simulator", daemon=True)
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """Its address, without a trailing slash."""
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
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Serve a new connection on a thread of its own."""
        if isinstance(request, socket.socket):
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """End a connection."""
        if isinstance(request, socket.socket):
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Drop a connection that sent no HTTP, or whose client has gone."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
