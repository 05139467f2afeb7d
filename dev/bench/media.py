"""The media copier, against plain streaming of the same bytes into upload_blob."""

from __future__ import annotations

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from azure.storage.blob import ContainerClient
from requests.adapters import HTTPAdapter

from dev.azurite import AzuriteProcess
from dev.bench.figures import at_least, at_most, median_ratio, seconds
from dev.simulator import SimulatorProcess
from shared.bridge import Bridge, assemble
from shared.media.copy import copy
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dev.bench.figures import Figure

_ROOT = Path(__file__).resolve().parents[2]
_MIB = 1024 * 1024
_LARGE = 500 * _MIB
_SMALL, _MANY = _MIB, 200
_WORKERS = 16
_KEY = "bench"
_START = "2018-04-25T13:54:19+0000"


class _Unlimited:
    """The PBX's budget is not what is measured here."""

    def take(self, lane: str, **_: Any) -> None:
        """Always."""


def environment(connection_string: str, base_url: str) -> dict[str, str]:
    """The settings of a bridge to the simulator."""
    return {"DataStorage": connection_string, "PBX_BASE_URL": base_url, "PBX_API_KEY": _KEY}


def open_bridge(settings: dict[str, str]) -> Bridge:
    """A bridge whose PBX answers without a limit."""
    bridge = assemble(Settings.from_env(settings))
    bridge.storage.ready()
    bridge.pbx._budget = _Unlimited()  # type: ignore[assignment]
    return bridge


def message(recording: int) -> dict[str, Any]:
    """What the processor asks of the copier."""
    received = "2018-04-25T13:57:24Z"
    ids = {"kind": "recording", "id": recording, "event": f"bench{recording}", "callID": recording}
    return {**ids, "action": "copy", "received": received, "first": received, "attempt": 0}


def _add(pbx: SimulatorProcess, ids: Iterable[int], size: int) -> None:
    for id in ids:
        pbx.control("POST", "items", resource="call_records", id=id, callID=id, callStarted=_START, direction="in")
        pbx.control("POST", "files", resource="call_records", id=id, size=size)


def _plain(container: ContainerClient, pbx: SimulatorProcess, session: requests.Session, id: int) -> None:
    headers = {"Authorization": f"Bearer {_KEY}"}
    record = session.get(f"{pbx.base_url}call_records/{id}", headers=headers, timeout=30).json()["data"]
    with session.get(record["recordingURL"], headers=headers, stream=True, timeout=30) as answer:
        container.upload_blob(f"bare/{id}", answer.raw, overwrite=True)


def _ratio(bridge: Bridge, pbx: SimulatorProcess, size: int, many: int, rounds: int) -> float:
    numbers = itertools.count(10**9 if many == 1 else 10**6)
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_maxsize=_WORKERS))
    container = ContainerClient.from_connection_string(bridge.settings.storage.connection_string or "", "payloads")

    def ours() -> float:
        ids = list(itertools.islice(numbers, many))
        _add(pbx, ids, size)
        with ThreadPoolExecutor(_WORKERS) as pool:
            return seconds(lambda: list(pool.map(lambda id: copy(bridge, message(id)), ids)))

    def limit() -> float:
        ids = list(itertools.islice(numbers, many))
        _add(pbx, ids, size)
        with ThreadPoolExecutor(_WORKERS) as pool:
            return seconds(lambda: list(pool.map(lambda id: _plain(container, pbx, session, id), ids)))

    return 1 / median_ratio(ours, limit, rounds)


def _memory(connection_string: str, pbx: SimulatorProcess) -> float:
    """MiB that copying a large recording takes over idle, in a process that does nothing else."""
    _add(pbx, [7], 4 * _MIB)
    _add(pbx, [8], _LARGE)
    done = subprocess.run(
        [sys.executable, "-m", "dev.bench.media", connection_string, pbx.base_url],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def figures() -> list[Figure]:
    """Throughput of one large and many small recordings, and memory."""
    with AzuriteProcess() as azurite, SimulatorProcess(_KEY) as pbx:
        bridge = open_bridge(environment(azurite.connection_string, pbx.base_url))
        large = _ratio(bridge, pbx, _LARGE, 1, rounds=3)
        small = _ratio(bridge, pbx, _SMALL, _MANY, rounds=3)
        memory = _memory(azurite.connection_string, pbx)
    limit = "plain streaming into upload_blob"
    return [
        at_least("Media: 1 recording of 500 MB", limit, large, 0.8),
        at_least("Media: 200 recordings of 1 MB, 16 at a time", limit, small, 0.8),
        at_most("Media: memory over idle, MiB", "a 500 MB recording", memory, 16),
    ]


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    # Warmed up by a small recording, so that what is idle has all its libraries loaded.
    _bridge = open_bridge(environment(*sys.argv[1:3]))
    copy(_bridge, message(7))
    _idle = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / _MIB
    copy(_bridge, message(8))
    print(_peak_mib() - _idle)
