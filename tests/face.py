"""The Logic Apps face in a real host, with a simulated PBX and an account of its own."""

from __future__ import annotations

import pathlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from dev.simulator import Simulator
from shared.settings import Settings
from shared.storage.account import Storage
from tests.hosts import start_host, write_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
KEY = "flows-key"


class Face:
    """A running app as a flow sees it."""

    def __init__(self, url: str, storage: Storage, pbx: Simulator) -> None:
        self.url, self.storage, self.pbx = url, storage, pbx
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["x-functions-key"] = KEY

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request below the app's address; nothing is followed, nothing is retried."""
        return self.session.request(method, f"{self.url}{path}", timeout=30, allow_redirects=False, **options)

    def rings(self) -> int:
        """Return how often the PBX has been asked to dial."""
        return sum(seen.operation == "Dial" for seen in self.pbx.requests)


@contextmanager
def face(connection_string: str, directory: pathlib.Path, *functions: str, **settings: str) -> Iterator[Face]:
    """The app with these functions and settings, keys enforced as in Azure."""
    keys = write_keys(directory / "secrets", {"master": "master-key", "host": {"flows": KEY}})
    with Simulator() as pbx:
        environment = {
            "PUBLIC_BASE_URL": "",
            "DataStorage": connection_string,
            "PBX_BASE_URL": pbx.base_url,
            "PBX_API_KEY": pbx.api_key,
            **settings,
        }
        storage = Storage(Settings.from_env(environment).storage)
        with start_host(ROOT, env=environment | keys, functions=functions) as host:
            running = Face(host.url, storage, pbx)
            yield running
            running.session.close()
