"""A server that sends chosen bytes at a chosen pace."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Self

Answer = Callable[["RawServer", Callable[[bytes], None]], None]


class RawServer:
    """Gives one connection after the other the next of its answers, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.sent = 0
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if not self.stopping.is_set():
            self.stopping.set()
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._thread.join(5)

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        def send(part: bytes) -> None:
            connection.sendall(part)
            self.sent += len(part)

        try:
            self.asked.append(connection.recv(65536))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            answer(self, send)
        except OSError:
            return  # the other side has had enough


def head(*lines: str, status: str = "200 OK") -> bytes:
    """The head of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""]).encode()


def fixed(*parts: bytes) -> Answer:
    """An answer of these bytes."""

    def answer(server: RawServer, send: Callable[[bytes], None]) -> None:
        for part in parts:
            send(part)

    return answer


def dripping(begin: bytes, pause: float) -> Answer:
    """Return an answer that begins so and sends a byte after each pause, until the connection is closed."""

    def answer(server: RawServer, send: Callable[[bytes], None]) -> None:
        send(begin)
        while not server.stopping.wait(pause):
            send(b" ")

    return answer
