"""The simulator with its HTTP server, in this process or in a process of its own."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self

import requests

from dev.processes import ROOT, ChildProcess
from dev.server import Answer, Request, Server
from dev.simulator.api import Api
from dev.simulator.calls import Call, place
from dev.simulator.day import demo
from dev.simulator.pbx import Pbx
from dev.simulator.wire import encode, envelope

Control = Callable[[dict[str, Any]], Any]

_URL = re.compile(r"^(http\S+)$", re.MULTILINE)


class Simulator(Pbx):
    """
    A PBX on `url`. A context manager.

    Port 0 is any free port. With one of `workers`, webhooks are posted one after another. Another process controls it
    by `METHOD /sim/{name}`.
    """

    def __init__(self, api_key: str = "demo-key", *, port: int = 0, workers: int = 4) -> None:
        super().__init__(api_key, workers)
        self._api = Api(self)
        self._server = Server(self._respond, port)
        self.url = self._server.url
        self._stopping = threading.Event()
        self._day: threading.Thread | None = None
        self._controls: dict[tuple[str, str], Control] = {
            ("GET", "counts"): lambda _: {name: len(rows) for name, rows in self.rows.items()},
            ("GET", "day"): lambda _: {"done": self._day is not None and not self._day.is_alive()},
            ("POST", "day"): lambda body: self.start_day(float(body["pace"])),
            ("POST", "calls"): lambda body: asdict(place(self, **body)),
            ("POST", "items"): lambda body: {"id": self.add(body.pop("resource"), body.pop("id", None), **body)},
            ("POST", "bulk"): lambda body: {"count": len(self.bulk(body["resource"], int(body["count"])))},
            ("POST", "files"): self._change_file,
        }

    @property
    def base_url(self) -> str:
        """The value of PBX_BASE_URL."""
        return f"{self.url}/api/v2/"

    def start_day(self, pace: float = 0.0) -> None:
        """
        Begin the day of `dev.simulator.day` in the background.

        Its steps are `pace` real seconds apart. Without a pace, steps in the past run at once, the rest in real time.
        """

        def run() -> None:
            demo(self)
            if pace > 0:
                self.clock.play(pace, self._stopping.wait)
            self.wait_delivered()
            self.clock.set(None)

        self._day = threading.Thread(target=run, name="simulator-day", daemon=True)
        self._day.start()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        if self._day:
            self._day.join(timeout=5)
        self._server.close()
        self.clock.close()
        self.hooks.close()

    def call(self, caller: str = "", destination: str = "67021234", **plan: Any) -> Call:
        """Plan a call; `plan` as in `dev.simulator.calls.place`."""
        return place(self, caller, destination, **plan)

    def _respond(self, request: Request) -> Answer:
        if request.path.startswith(("/api/v2/", "/files/")):
            return self._api.respond(request)
        control = self._controls.get((request.method, request.path.removeprefix("/sim/")))
        if control is None:
            return Answer(404, encode(envelope(404, "Not found")))
        try:
            answer = control(json.loads(request.body or b"{}"))
        except (KeyError, TypeError, ValueError) as error:
            return Answer(400, encode({"error": f"{type(error).__name__}: {error}"}))
        return Answer(200, json.dumps(answer, default=str).encode())

    def _change_file(self, body: dict[str, Any]) -> dict[str, int]:
        """Set fields of an AudioFile."""
        audio = self.file(body.pop("resource"), int(body.pop("id")))
        for name, value in body.items():
            setattr(audio, name, value)
        return {"length": audio.length}


class SimulatorProcess(ChildProcess):
    """
    Runs `python -m dev.simulator` on a free port; the constructor waits until it is ready, or raises NotReady.

    It does not share the interpreter with the measured code. With `day` it begins with two hours of calls.
    """

    def __init__(self, api_key: str = "demo-key", *, day: bool = False) -> None:
        self.api_key = api_key
        command = (sys.executable, "-m", "dev.simulator", "--port", "0", "--api-key", api_key)
        super().__init__((*command, *(("--day",) if day else ())), cwd=ROOT)
        self.url = self.wait_for_line(_URL, 30)
        self.base_url = f"{self.url}/api/v2/"

    def control(self, method: str, name: str, /, **body: Any) -> Any:
        """Send one `/sim/{name}` request and return its JSON answer; requests.HTTPError if it is refused."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, f"{self.url}/sim/{name}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()
