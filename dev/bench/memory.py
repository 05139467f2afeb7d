"""Memory of the smallest instance, with everything that it may have to do at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from dev.azurite import AzuriteProcess
from dev.bench.figures import at_most
from dev.bench.media import environment, message
from dev.drill.world import FIRST_CALL, call_data
from dev.processes import HostProcess
from dev.simulator import SimulatorProcess
from shared.settings import Settings
from shared.storage.account import Storage
from shared.storage.messages import send

if TYPE_CHECKING:
    from dev.bench.figures import Figure

_ROOT = Path(__file__).resolve().parents[2]
_MIB = 1024 * 1024
# What infra/main.bicep gives an instance of 512 MB to do at once.
_CONCURRENCY, _QUEUE_BATCH = 8, 4
_CONNECTIONS = 16
_COPIES, _SIZE = 40, 20 * _MIB
# Of 512 MiB, Microsoft's own host was measured to take 230 at such a peak.
_ROOM = 512 - 230
_PATIENCE_SECONDS = 300.0


def figures() -> list[Figure]:
    """The most that the process of the functions has had."""
    with AzuriteProcess() as azurite, SimulatorProcess("bench") as pbx:
        settings = environment(azurite.connection_string, pbx.base_url) | {
            "PBX_WEBHOOK_KEY": "",
            "PYTHON_THREADPOOL_THREAD_COUNT": str(_CONCURRENCY),
            "AzureFunctionsJobHost__extensions__queues__batchSize": str(_QUEUE_BATCH),
            "AzureFunctionsJobHost__extensions__queues__newBatchThreshold": str(_QUEUE_BATCH),
        }
        storage = Storage(Settings.from_env(settings).storage)
        storage.ready()
        functions = ("OnCallStarted", "ProcessEvent", "CopyMedia", "Deliver")
        with HostProcess(_ROOT, env=settings, functions=functions) as host:
            _load(host.url, pbx, storage)
            peak = _peak_mib(host.pid)
    name = f"Memory with {_CONNECTIONS} connections and {_COPIES} copies of {_SIZE // _MIB} MiB, MiB"
    return [at_most(name, "512, less what Microsoft's host takes", peak, _ROOM)]


def _load(url: str, pbx: SimulatorProcess, storage: Storage) -> None:
    """Events over all connections for as long as audio is copied."""
    for id in range(1, _COPIES + 1):
        pbx.control("POST", "items", resource="call_records", id=id, **call_data(FIRST_CALL + id))
        pbx.control("POST", "files", resource="call_records", id=id, size=_SIZE)
        send(storage, "media", message(id), name=f"recording-{id}")
    copied = threading.Event()

    def connection(number: int) -> int:
        count = 0
        with requests.Session() as session:
            session.trust_env = False
            while not copied.is_set():
                data = call_data(FIRST_CALL + number * 1_000_000 + count)
                session.post(f"{url}/api/events/CallStarted", json={"data": data}, timeout=60).raise_for_status()
                count += 1
        return count

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        sent = [pool.submit(connection, number) for number in range(_CONNECTIONS)]
        try:
            _wait_for_copies(storage)
        finally:
            copied.set()
    if not all(one.result() for one in sent):
        raise RuntimeError("a connection had no answer")


def _wait_for_copies(storage: Storage) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while sum(1 for _ in storage.container("recordings").list_blob_names()) < _COPIES:
        if time.monotonic() > until:
            raise RuntimeError("the audio is not copied")
        time.sleep(0.2)


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
