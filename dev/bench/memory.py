"""Memory of the smallest instance under its highest load: events and copies of audio at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import requests

from dev.azurite import AzuriteProcess
from dev.bench.app import App, until
from dev.bench.figures import Figure, at_most
from dev.simulator import SimulatorProcess

_MIB = 1024 * 1024
# The concurrency of an instance of 512 MB in infra/main.bicep.
_CONCURRENCY, _QUEUE_BATCH = 8, 4
_CONNECTIONS = 16
_COPIES, _SIZE = 40, 20 * _MIB
# 512 MiB less 230, measured for Microsoft's own host at such a peak.
_ROOM = 512 - 230
_FIRST_CALL = 1_524_664_459_097_344


def figures() -> list[Figure]:
    """Return the peak memory of the functions' process."""
    with (
        AzuriteProcess() as azurite,
        SimulatorProcess() as pbx,
        App(
            azurite.connection_string,
            *("OnCallStarted", "OnCallRecorded", "ProcessEvent", "CopyMedia"),
            pbx_url=pbx.base_url,
            pbx_key=pbx.api_key,
            PYTHON_THREADPOOL_THREAD_COUNT=str(_CONCURRENCY),
            AzureFunctionsJobHost__extensions__queues__batchSize=str(_QUEUE_BATCH),
            AzureFunctionsJobHost__extensions__queues__newBatchThreshold=str(_QUEUE_BATCH),
        ) as app,
    ):
        _load(app, pbx)
        peak = app.peak_mib()
    name = f"Memory with {_CONNECTIONS} connections and {_COPIES} copies of {_SIZE // _MIB} MiB, MiB"
    return [at_most(name, "512, less what Microsoft's host takes", peak, _ROOM)]


def _load(app: App, pbx: SimulatorProcess) -> None:
    """Send events over all connections while audio is copied."""
    for id in range(1, _COPIES + 1):
        pbx.control("POST", "items", resource="call_records", id=id, callID=_FIRST_CALL + id)
        pbx.control("POST", "files", resource="call_records", id=id, size=_SIZE)
        app.send("CallRecorded", callID=_FIRST_CALL + id, recordingID=id)
    copied = threading.Event()

    def connection(number: int) -> int:
        count = 0
        with requests.Session() as session:
            session.trust_env = False
            while not copied.is_set():
                data = {"callID": _FIRST_CALL + number * 1_000_000 + count, "contactID": 966}
                session.post(f"{app.url}/api/events/CallStarted", json={"data": data}, timeout=60).raise_for_status()
                count += 1
        return count

    recordings = app.storage.container("recordings")
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        connections = [pool.submit(connection, number) for number in range(_CONNECTIONS)]
        try:
            until(lambda: sum(1 for _ in recordings.list_blob_names()) >= _COPIES)
        finally:
            copied.set()
    if not all(sent.result() for sent in connections):
        raise RuntimeError("a connection had no answer")
