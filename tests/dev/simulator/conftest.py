"""A PBX, a client with its key, and a place where webhooks arrive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests

from dev.server import Answer, Request, Server
from dev.simulator import Simulator
from dev.simulator.resources import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator


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

    def delete(self, path: str) -> requests.Response:
        return self.session.delete(self.pbx.base_url + path, timeout=10)


class Inbox:
    """Takes webhooks and answers 202."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.server = Server(self._take)
        self.server.start()

    def _take(self, request: Request) -> Answer:
        self.bodies.append(json.loads(request.body))
        return Answer(202)

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
    box = Inbox()
    for row in EVENTS:
        pbx.hooks.subscribe(row.name, f"{box.server.url}/{row.name}")
    yield box
    pbx.wait_delivered()
    box.server.close()
