"""The host's admin routes: what runs here, and running a function by hand."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dev.host.answers import Answer
from dev.host.queues import by_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dev.host.timers import Timer
    from dev.host.worker import Function, Worker

_FUNCTION = re.compile(r"/admin/functions/([^/]+)\Z", re.IGNORECASE)
_JSON = re.compile(r"(?:application/(?:[\w.+-]+\+)?|text/)json\s*(?:;|\Z)", re.IGNORECASE)
_PING = Answer(status=200, headers=((b"cache-control", b"no-store,no-cache"), (b"pragma", b"no-cache")))


@dataclass(frozen=True, slots=True)
class Action:
    """One admin route: what answers to a request's content type and body, and whether it needs no key."""

    answer: Callable[[str, bytes], Answer]
    anonymous: bool = False


class Admin:
    """Answers below /admin."""

    def __init__(self, worker: Worker, timers: Mapping[str, Timer], urls: Mapping[str, str]) -> None:
        self._worker, self._timers, self._urls = worker, timers, urls
        self._by_name = {function.name.lower(): function for function in worker.functions}
        self._started = time.monotonic()
        self._runs: set[asyncio.Task[Any]] = set()

    def action(self, method: str, path: str) -> Action | None:
        """What answers a request; None where no route fits."""
        path = path.removesuffix("/")
        match (method, path.lower()):
            case (("GET" | "POST"), "/admin/host/ping"):
                return Action(lambda *_: _PING, anonymous=True)
            case "GET", "/admin/host/status":
                return Action(lambda *_: _json(self._status()))
            case "GET", "/admin/functions":
                return Action(lambda *_: _json([self._described(function) for function in self._worker.functions]))
        named = _FUNCTION.match(path)
        if named is None or method not in ("GET", "POST"):
            return None
        function = self._by_name.get(named[1].lower())
        if method == "POST":
            return Action(lambda content_type, body: self._run(function, content_type, body))
        return Action(lambda *_: _json(self._described(function)) if function else Answer(status=404))

    def _run(self, function: Function | None, content_type: str, body: bytes) -> Answer:
        if not _JSON.match(content_type):
            return Answer(status=415)
        try:
            text = json.loads(body).get("input")
        except (ValueError, AttributeError, RecursionError):
            return Answer(status=400)
        if isinstance(text, dict | list):
            return Answer(status=400)
        if function is None:
            return Answer(status=404)
        timer = self._timers.get(function.name)
        data = timer.by_hand() if timer else by_hand(function, "" if text is None else str(text))
        task = asyncio.create_task(self._worker.invoke(function, *data))
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)
        return Answer(status=202)

    def _status(self) -> dict[str, Any]:
        return {
            "id": "local",
            "state": "Running",
            "version": "4.0.0-local",
            "processUptime": int((time.monotonic() - self._started) * 1000),
            "functionCount": len(self._worker.functions),
            "running": self._worker.running,
            "executed": dict(self._worker.executed),
        }

    def _described(self, function: Function) -> dict[str, Any]:
        return {
            "name": function.name,
            "href": f"/admin/functions/{function.name}",
            "language": "python",
            "isDisabled": function.disabled,
            "config": {"bindings": function.bindings},
            "invoke_url_template": self._urls.get(function.name),
        }


def _json(body: Any) -> Answer:
    return Answer(
        status=200,
        headers=((b"content-type", b"application/json; charset=utf-8"),),
        body=json.dumps(body).encode(),
    )
