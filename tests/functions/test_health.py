"""The health of the app over HTTP: open to everybody, without detail, and soon."""

from __future__ import annotations

import pathlib
import socket
import time
from collections.abc import Callable

import requests

from tests.hosts import start_host

ROOT = pathlib.Path(__file__).parents[2]


def test_health_is_200_while_storage_answers(new_account: Callable[[], str]) -> None:
    with start_host(ROOT, env={"DataStorage": new_account()}, functions=("GetHealth",)) as host:
        answer = requests.get(f"{host.url}/api/health", timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")


def test_health_is_503_within_two_seconds_while_storage_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        nowhere = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=aaaa;" + "".join(
            f"{service}Endpoint=http://127.0.0.1:{port}/a;" for service in ("Blob", "Queue", "Table")
        )
        with start_host(ROOT, env={"DataStorage": nowhere}, functions=("GetHealth",)) as host:
            requests.get(f"{host.url}/api/health", timeout=10)
            began = time.monotonic()
            answer = requests.get(f"{host.url}/api/health", timeout=10)
            took = time.monotonic() - began
    assert (answer.status_code, answer.content) == (503, b"")
    assert took < 2.5
