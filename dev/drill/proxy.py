"""A TCP proxy that can cut off its target as networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Self

OPEN = "open"
# Reset connections, never answer them, or drop the answers to requests that took effect.
FAULTS = ("reset", "hang", "lose answers")
_NO_LINGER = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards connections to a URL's host and port while it is open. A context manager; its own address is `url`."""

    def __init__(self, target: str) -> None:
        name, _, number = target.partition("://")[2].partition("/")[0].rpartition(":")
        self._target = (name, int(number))
        self._mode = OPEN
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def become(self, mode: str) -> None:
        """Switch to OPEN or one of FAULTS; existing connections are reset, or hang with "hang"."""
        self._loop.call_soon_threadsafe(self._become, mode)

    def _become(self, mode: str) -> None:
        self._mode = mode
        for writer in list(self._open) if mode != "hang" else ():
            _reset(writer)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._mode == "reset":
                raise ConnectionResetError
            target_reader, target_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        self._open |= {writer, target_writer}
        pumps = self._pump(reader, target_writer, answers=False), self._pump(target_reader, writer, answers=True)
        for work in pumps:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self._mode == "hang":
                    continue
                if self._mode == "lose answers" and answers:
                    _reset(writer)
                    break
                writer.write(data)
                await writer.drain()
        self._open.discard(writer)
        with contextlib.suppress(OSError):
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    plain = writer.get_extra_info("socket")
    if plain is not None:
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
