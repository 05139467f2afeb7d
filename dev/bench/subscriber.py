"""A subscriber in a process of its own that answers with a delay and counts its posts by path and event."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections import Counter
from urllib.request import urlopen

from dev.processes import ROOT, ChildProcess
from dev.server import Answer, Request, Server


class Subscriber(ChildProcess):
    """Runs `python -m dev.bench.subscriber`; the constructor waits until it is ready."""

    def __init__(self, seconds: float) -> None:
        super().__init__((sys.executable, "-m", "dev.bench.subscriber", str(seconds)), cwd=ROOT)
        self.url = self.wait_for_line(re.compile(r"^(http\S+)$", re.MULTILINE), 30)

    def counts(self) -> Counter[tuple[str, str]]:
        """Return the posts since the last call, counted by path and event id."""
        with urlopen(f"{self.url}/counts", timeout=30) as answer:  # noqa: S310 - our own address
            return Counter((path, id) for path, id in json.load(answer))


def main() -> None:
    """Answer each post after the given seconds, and each GET with the posts since the last one."""
    posts: list[tuple[str, str]] = []

    def respond(request: Request) -> Answer:
        if request.method == "POST":
            posts.append((request.path, request.headers.get("webhook-id", "")))
            return Answer(200, b"ok", delay=float(sys.argv[1]))
        taken = posts[:]
        del posts[: len(taken)]
        return Answer(200, json.dumps(taken).encode())

    server = Server(respond)
    server.start()
    print(server.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
