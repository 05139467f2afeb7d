"""The listening socket and the HTTP server on it."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from dev.host.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BACKLOG = 1024
# Kestrel's: shorter than no client's own, so that a kept connection is not closed under a request.
_KEEP_ALIVE = 130


def listen(address: str, port: int) -> socket.socket:
    """Listen on an address; port 0 takes a free one. HostError when the port is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named, which socket.create_server does not do.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(_BACKLOG)
        return listening
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise HostError(f"port {port} is in use; choose another with --port") from error
        raise HostError(f"cannot listen on {address}:{port}: {error.strerror}") from error


def url_of(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the host decides when it ends."""

    def __init__(self, app: Any, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def cut_off(self) -> None:
        """Hang up on the callers that still wait; their functions go on."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the host."""
        yield
