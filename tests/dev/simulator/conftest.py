"""A PBX, a client with its key, and a place where webhooks arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from dev.listener import Listener
from dev.simulator import Simulator
from dev.simulator.resources import EVENTS


class Client:
    """Asks the PBX with its key."""

    def __init__(self, pbx: Simulator) -> None:
        self.pbx = pbx
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {pbx.api_key}"

    def get(self, path: str, **query: Any) -> requests.Response:
        return self.session.get(self.pbx.base_url + path, params=query, timeout=10)

    def data(self, path: str, **query: Any) -> Any:
        return self.get(path, **query).json()["data"]

    def ids(self, resource: str, field: str, **query: Any) -> list[int]:
        return [item[field] for item in self.data(f"trigger/{resource}", **query)]

    def post(self, path: str, body: Any) -> requests.Response:
        return self.session.post(self.pbx.base_url + path, json=body, timeout=10)


class Inbox(Listener):
    """Takes webhooks."""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [one.json() for one in self.received]

    @property
    def names(self) -> list[str]:
        return [body["eventType"] for body in self.bodies]


@pytest.fixture
def pbx() -> Iterator[Simulator]:
    with Simulator("test-key", workers=1) as simulator:
        yield simulator


@pytest.fixture
def client(pbx: Simulator) -> Iterator[Client]:
    asking = Client(pbx)
    with asking.session:
        yield asking


@pytest.fixture
def inbox(pbx: Simulator) -> Iterator[Inbox]:
    """Subscribed to all events."""
    with Inbox() as box:
        for event in EVENTS:
            pbx.hooks.subscribe(event, f"{box.url}/{event}")
        yield box
        pbx.wait_delivered()
