"""A subscriber in a process of its own, which answers after a while and counts what it was sent, by path and event."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.request import urlopen

from aiohttp import web

if TYPE_CHECKING:
    from types import TracebackType

_ROOT = Path(__file__).resolve().parents[2]
SLOW = "/slow"
_SLOW_SECONDS = 5.0


class Subscriber:
    """Runs `python -m dev.bench.subscriber`; a context manager."""

    def __init__(self, seconds: float) -> None:
        self._command = (sys.executable, "-m", "dev.bench.subscriber", str(seconds))

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def counts(self) -> Counter[tuple[str, str]]:
        """How often each event came to each path; forgotten then."""
        with urlopen(f"{self.url}/counts", timeout=30) as answer:  # noqa: S310 - our own address
            return Counter({(path, id): count for path, id, count in json.load(answer)})


async def _serve(seconds: float) -> None:
    counted: Counter[tuple[str, str]] = Counter()

    async def take(request: web.Request) -> web.Response:
        await request.read()
        counted[request.path, request.headers.get("webhook-id", "")] += 1
        await asyncio.sleep(_SLOW_SECONDS if request.path == SLOW else seconds)
        return web.Response(text="ok")

    async def counts(_: web.Request) -> web.Response:
        rows = [(path, id, count) for (path, id), count in counted.items()]
        counted.clear()
        return web.json_response(rows)

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    app.router.add_get("/counts", counts)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(float(sys.argv[1])))
