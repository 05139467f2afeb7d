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
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_LINE = 65_536
_GZIP_FROM = 512  # bytes


@dataclass(frozen=True)
class Request:
    """What a client asked; header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str

    @property
    def arguments(self) -> dict[str, str]:
        """The query's parameters, empty ones included."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass
class Answer:
    """What goes back: bytes, or blocks with their announced length (None: until the connection closes)."""

    status: int = 200
    body: bytes | Iterable[memoryview] = b""
    media_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    delay: float = 0.0  # seconds before the answer
    pause: float = 0.0  # seconds between blocks
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
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        path, _, query = target.partition("?")
        return Request(method, unquote(path), query, headers, self._body(headers), str(self.client_address[0]))

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length") or 0))
        parts: list[bytes] = []
        while size := int(self.rfile.readline(MAX_LINE).split(b";")[0] or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline(MAX_LINE)
        self.rfile.readline(MAX_LINE)
        return b"".join(parts)

    def _write(self, request: Request, answer: Answer) -> bool:
        """Sends the answer; whether the connection lives on."""
        if answer.delay:
            time.sleep(answer.delay)
        if answer.reset:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.close()
            return False
        body, length = answer.body, answer.length
        if isinstance(body, bytes):
            if "gzip" in request.headers.get("accept-encoding", "") and self.server.compress(answer, body):
                body = gzip.compress(body, 1)
                answer.headers["Content-Encoding"] = "gzip"
            length = len(body) if length is None else length
        keep = length is not None and answer.cut is None and request.headers.get("connection", "").lower() != "close"
        head = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}", f"Content-Type: {answer.media_type}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        if length is not None:
            head.append(f"Content-Length: {length}")
        head.append(f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n")
        start = "\r\n".join(head).encode("latin-1")
        if request.method == "HEAD":
            self.request.sendall(start)
        elif isinstance(body, bytes):
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
            if answer.pause:
                time.sleep(answer.pause)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


class Server(socketserver.ThreadingTCPServer):
    """Serves `respond` on a background thread until `close`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(
        self, host: str, port: int, respond: Callable[[Request], Answer], compress: Callable[[], bool]
    ) -> None:
        super().__init__((host, port), _Connection)
        self.respond = respond
        self._compress = compress
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="simulator", daemon=True)
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """Where the server listens, without a trailing slash."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"

    def compress(self, answer: Answer, body: bytes) -> bool:
        """Whether this answer goes out compressed to a client that accepts it."""
        return self._compress() and len(body) >= _GZIP_FROM and answer.cut is None and answer.length is None

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stops, and cuts the connections that are still open."""
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
        """Serves a new connection on a thread of its own."""
        if isinstance(request, socket.socket):
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Ends a connection."""
        if isinstance(request, socket.socket):
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Drops a connection that sent what is not HTTP, or whose client has gone."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
