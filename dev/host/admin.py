"""The host's admin endpoints: what runs here, and running a function by hand."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any

from dev.host.answers import Answer
from dev.host.queues import run_by_hand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dev.host.timers import Timer
    from dev.host.worker import Function, Worker

_FUNCTION = re.compile(r"/admin/functions/([^/]+)\Z", re.IGNORECASE)


class Admin:
    """Answers below /admin."""

    def __init__(self, worker: Worker, timers: Mapping[str, Timer], urls: Mapping[str, str]) -> None:
        self._worker, self._timers, self._urls = worker, timers, urls
        self._by_name = {function.name.lower(): function for function in worker.functions}
        self._started = time.monotonic()
        self._runs: set[asyncio.Task[Any]] = set()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to a request whose key was already checked."""
        path = path.rstrip("/")
        match (method, path.lower()):
            case "GET", "/admin/host/status":
                return _json(self._status())
            case (("GET" | "POST"), "/admin/host/ping"):
                return Answer(status=200)
            case "GET", "/admin/functions":
                return _json([self._described(function) for function in self._worker.functions])
        named = _FUNCTION.match(path)
        function = self._by_name.get(named[1].lower()) if named else None
        if function is None:
            return Answer(status=404)
        if method == "GET":
            return _json(self._described(function))
        return self._run(function, body) if method == "POST" else Answer(status=404)

    def _run(self, function: Function, body: bytes) -> Answer:
        try:
            given = json.loads(body)
            text = given.get("input") or ""
        except (ValueError, AttributeError):
            return Answer(status=400)
        if not isinstance(text, str):
            text = json.dumps(text)
        if function.kind == "queueTrigger":
            task = run_by_hand(self._worker, function, text)
        elif timer := self._timers.get(function.name):
            task = asyncio.create_task(timer.fire())
        else:
            return Answer(status=400)
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
