"""The media copier, against plain streaming of the same bytes into upload_blob."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from azure.storage.blob import ContainerClient
from requests.adapters import HTTPAdapter

from dev.azurite import AzuriteProcess
from dev.bench.app import bridge_to
from dev.bench.figures import Figure, at_least, median_ratio, seconds
from dev.simulator import SimulatorProcess
from shared.bridge import Bridge
from shared.media.copy import copy

_MIB = 1024 * 1024
_LARGE = 500 * _MIB
_SMALL, _MANY = _MIB, 200
_WORKERS = 16
_KEY = "bench"
_HEADERS = {"Authorization": f"Bearer {_KEY}"}
_START = "2018-04-25T13:54:19+0000"


class _Unlimited:
    """A budget without a limit."""

    def take(self, lane: str, **_: Any) -> None:
        """Let every call pass."""


def _message(recording: int, url: str) -> dict[str, Any]:
    """Return a message to the copier, with the record of a poll."""
    received = "2018-04-25T13:57:24Z"
    people = {"caller": "27771153", "destination": "67000123", "contactID": 966}
    record = {"callID": recording, "recordingURL": url, "callStarted": _START, "direction": "in", **people}
    ids = {"kind": "recording", "id": recording, "event": f"bench{recording}", "callID": recording}
    return {**ids, "action": "copy", "record": record, "received": received, "attempt": 0}


def _add(pbx: SimulatorProcess, session: requests.Session, ids: Iterable[int], size: int) -> list[dict[str, Any]]:
    """Add recordings of a size to the PBX, and return their messages."""
    messages = []
    for id in ids:
        pbx.control("POST", "items", resource="call_records", id=id, callID=id, callStarted=_START, direction="in")
        pbx.control("POST", "files", resource="call_records", id=id, size=size)
        record = session.get(f"{pbx.base_url}call_records/{id}", headers=_HEADERS, timeout=30).json()["data"]
        messages.append(_message(id, record["recordingURL"]))
    return messages


def _plain(container: ContainerClient, session: requests.Session, message: dict[str, Any]) -> None:
    with session.get(message["record"]["recordingURL"], headers=_HEADERS, stream=True, timeout=30) as answer:
        container.upload_blob(f"bare/{message['id']}", answer.raw, overwrite=True)


def _ratio(bridge: Bridge, pbx: SimulatorProcess, size: int, many: int) -> float:
    numbers = itertools.count(10**9 if many == 1 else 10**6)
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_maxsize=_WORKERS))
    container = ContainerClient.from_connection_string(bridge.settings.storage.connection_string or "", "payloads")

    def timed(work: Callable[[dict[str, Any]], object]) -> float:
        messages = _add(pbx, session, itertools.islice(numbers, many), size)
        with ThreadPoolExecutor(_WORKERS) as pool:
            return seconds(lambda: list(pool.map(work, messages)))

    def ours() -> float:
        return timed(lambda message: copy(bridge, message))

    def limit() -> float:
        return timed(lambda message: _plain(container, session, message))

    return 1 / median_ratio(ours, limit, rounds=3)


def figures() -> list[Figure]:
    """Return the throughput of one large recording and of many small ones."""
    with AzuriteProcess() as azurite, SimulatorProcess(_KEY) as pbx:
        bridge = bridge_to(azurite.connection_string, pbx.base_url, _KEY)
        bridge.pbx._budget = _Unlimited()  # type: ignore[assignment]
        large = _ratio(bridge, pbx, _LARGE, 1)
        small = _ratio(bridge, pbx, _SMALL, _MANY)
    limit = "plain streaming into upload_blob"
    return [
        at_least("Media: 1 recording of 500 MB", limit, large, 0.8),
        at_least("Media: 200 recordings of 1 MB, 16 at a time", limit, small, 0.8),
    ]
