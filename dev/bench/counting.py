"""A proxy in front of the storage emulator that counts requests by method and path."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING, Self

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length"})


class CountingProxy:
    """Passes everything on to the services at `targets` (one port each) and counts it; a context manager."""

    def __init__(self, targets: tuple[str, ...]) -> None:
        self._targets = targets
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.urls: list[str] = []
        self.requests: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Requests so far."""
        return self.requests.total()

    def through(self, connection: str) -> str:
        """Return a connection string of the services behind it as one that is counted."""
        for real, ours in zip(self._targets, self.urls, strict=True):
            connection = connection.replace(real, ours)
        return connection

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        runners = []
        self._session = ClientSession(
            # The emulator closes idle connections after five seconds.
            connector=TCPConnector(limit=64, keepalive_timeout=3),
            timeout=ClientTimeout(total=60),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
        )
        for target in self._targets:
            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{path:.*}", self._pass_to(target))
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            runners.append(runner)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.urls.append(f"http://{host}:{port}")
        self._ready.set()
        await self._stopping.wait()
        for runner in runners:
            await runner.cleanup()
        await self._session.close()

    def _pass_to(self, target: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            self.requests[f"{request.method} {request.path.split('(')[0]}"] += 1
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
            url = URL(target + request.raw_path, encoded=True)
            async with self._session.request(
                request.method,
                url,
                headers=headers,
                data=await request.read() or None,
                allow_redirects=False,
                # The signature covers the headers: none may be added.
                skip_auto_headers=("Content-Type", "Accept", "Accept-Encoding", "User-Agent"),
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

        return handle
