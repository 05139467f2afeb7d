"""A subscriber in a process of its own, which answers after a while and counts what it was sent, by path and event."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from urllib.request import urlopen

from aiohttp import web

from dev.processes import ROOT, ChildProcess


class Subscriber(ChildProcess):
    """Runs `python -m dev.bench.subscriber`; ready when the constructor returns."""

    def __init__(self, seconds: float) -> None:
        super().__init__((sys.executable, "-m", "dev.bench.subscriber", str(seconds)), cwd=ROOT)
        self.url = self.wait_for(lambda text: text.endswith("\n"), 30).strip()

    def counts(self) -> Counter[tuple[str, str]]:
        """Return the number of posts of each event to each path, and forget them."""
        with urlopen(f"{self.url}/counts", timeout=30) as answer:  # noqa: S310 - our own address
            return Counter({(path, id): count for path, id, count in json.load(answer)})


async def _serve(seconds: float) -> None:
    counted: Counter[tuple[str, str]] = Counter()

    async def take(request: web.Request) -> web.Response:
        await request.read()
        counted[request.path, request.headers.get("webhook-id", "")] += 1
        await asyncio.sleep(seconds)
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
