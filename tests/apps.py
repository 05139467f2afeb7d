"""The app in a real host, with an account of its own, a simulated PBX, and keys as in Azure."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from dev.processes import ROOT, HostProcess, without_timers
from dev.simulator import Simulator
from shared.settings import Settings
from shared.storage.account import Storage
from tests.hosts import MASTER, start_host, write_keys

if TYPE_CHECKING:
    import pathlib

FIXTURES = ROOT / "tests" / "fixtures" / "events"
KEY = "flows-key"
KEYS = {"master": MASTER, "host": {"flows": KEY}}


@dataclass
class RunningApp:
    """A running app, its storage, its PBX, and the settings that it was started with."""

    host: HostProcess
    storage: Storage
    pbx: Simulator
    environment: Mapping[str, str]
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def url(self) -> str:
        """The app's address."""
        return self.host.url

    def ask(self, method: str, path: str, key: str = KEY, **options: Any) -> requests.Response:
        """Send a request with a key, below the app's address or to a whole one; nothing is followed or retried."""
        headers = {"x-functions-key": key} | options.pop("headers", {})
        url = path if path.startswith("http") else self.url + path
        return self.session.request(method, url, headers=headers, timeout=30, allow_redirects=False, **options)

    def run(self, function: str) -> None:
        """Start a function by hand, as the portal does."""
        assert self.ask("POST", f"/admin/functions/{function}", MASTER, json={}).status_code == 202

    def subscribe(self, event: str, endpoint: str, **more: Any) -> dict[str, Any]:
        """Subscribe, and return the answer's body."""
        answer = self.ask("POST", f"/api/v2/webhooks/{event}", json={"endpoint": endpoint, **more})
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def happen(self, event: str, **changes: Any) -> str:
        """Post a fixture as the PBX does, as an event of its own, and return the event's id."""
        payload = json.loads((FIXTURES / f"{event}.json").read_text())
        payload["data"] |= {"callID": time.time_ns() // 1000} | changes
        answer = self.ask("POST", f"/api/events/{event}", json=payload)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def rings(self) -> int:
        """Return how often the PBX has been asked to dial."""
        return len(self.pbx.calls_seen("Dial"))


@contextmanager
def running_app(
    connection_string: str,
    directory: pathlib.Path,
    *functions: str,
    port: int = 0,
    keys: Mapping[str, Any] = KEYS,
    **settings: str,
) -> Iterator[RunningApp]:
    """Run the app with these functions, or all of them; no timer runs unless a setting has its schedule."""
    with Simulator() as pbx:
        environment = {**without_timers(connection_string, pbx.base_url, pbx.api_key), **settings}
        storage = Storage(Settings.from_env(environment).storage)
        storage.ready()
        secrets = write_keys(directory / "secrets", keys)
        with start_host(ROOT, port, env=environment | secrets, functions=functions) as host:
            running = RunningApp(host, storage, pbx, environment)
            running.session.trust_env = False
            with running.session:
                yield running
