"""The whole app in a real host for its subscribers, with keys and with subscribers on this machine."""

from __future__ import annotations

import json
import pathlib
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from shared.settings import Settings
from shared.storage.account import Storage
from tests.hosts import start_host, write_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures" / "events"
KEY, MASTER = "flows-key", "master-key"


class RunningBridge:
    """A running app; the PBX is nowhere."""

    def __init__(self, url: str, storage: Storage) -> None:
        self.url, self.storage = url, storage
        self._session = requests.Session()
        self._session.trust_env = False

    def ask(self, method: str, path: str, key: str = KEY, **options: Any) -> requests.Response:
        """Send a request below the app's address, with a function key."""
        headers = {"x-functions-key": key} | options.pop("headers", {})
        url = path if path.startswith("http") else self.url + path
        return self._session.request(method, url, headers=headers, timeout=30, allow_redirects=False, **options)

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

    def close(self) -> None:
        """Hang up."""
        self._session.close()


@contextmanager
def running_bridge(connection_string: str, directory: pathlib.Path, **settings: str) -> Iterator[RunningBridge]:
    """Run the app with these settings beside those that its subscribers need; its timers do not run."""
    environment = {"DataStorage": connection_string, "PBX_BASE_URL": "http://127.0.0.1:9/", "PBX_API_KEY": "key"}
    environment |= {"ALLOW_LOOPBACK_CALLBACKS": "true", "PUBLIC_BASE_URL": "", "PBX_WEBHOOK_KEY": "", **settings}
    environment |= write_keys(directory / "secrets", {"master": MASTER, "host": {"flows": KEY}})
    # Far-off schedules: nothing is polled, reconciled or registered meanwhile.
    local = json.loads((ROOT / "local.settings.json.example").read_text())["Values"]
    environment |= {name: "0 0 0 1 1 *" for name in local if name.endswith("_SCHEDULE")}
    storage = Storage(Settings.from_env(environment).storage)
    storage.ready()
    with start_host(ROOT, env=environment) as host:
        running = RunningBridge(host.url, storage)
        try:
            yield running
        finally:
            running.close()
