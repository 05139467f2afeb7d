"""The budget of PBX calls under full load: what it costs in storage operations, and whether it holds over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from dev.azurite import AzuriteProcess
from dev.bench.counting import CountingProxy
from dev.bench.figures import Figure, at_most
from dev.processes import HostProcess
from dev.simulator import SimulatorProcess
from shared.pbx.resources import RESOURCES
from shared.settings import StorageAccount
from shared.storage.account import Storage
from shared.storage.messages import send
from shared.times import iso, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROOT = Path(__file__).resolve().parents[2]
_WINDOW = 60.0
_FLAT_OUT = {"poll": [2, 0.001], "media": [2, 0.001], "action": [1, 0.001]}
# A fifth of the true times, over four windows; storage is as slow as ever, so that races are likelier.
_SCALE, _WINDOWS = 0.2, 4
_HOSTS = 3
_HOST_SECONDS = 150.0
# Together within the twenty calls a minute that polls and media must leave.
_ACTION_EVERY = 6.0
_RECORDINGS = 600
# As infra/ and local.settings.json.example have it.
_THREADS = "16"
_CONTACT = 966


def figures() -> list[Figure]:
    """Storage operations a call for one and three processes and for three hosts, and what the hosts' PBX saw."""
    with AzuriteProcess(accounts=3) as azurite, _counted(azurite) as (proxy, account):
        costs = [_cost(proxy, account(number), processes) for number, processes in enumerate((3, 1))]
        hosts = _run_hosts(proxy, account(2))
    cost, counted = "Budget: storage operations a PBX call", "counted, all lanes flat out"
    return [
        at_most(f"{cost}, three processes", counted, costs[0], 3),
        at_most(f"{cost}, one process", counted, costs[1], 3),
        at_most(f"{cost}, three hosts", "counted, polling and copying flat out", hosts.cost, 3),
        at_most("Budget: PBX calls in any 60 s, three hosts", "the simulator's log", hosts.most, 100),
        at_most("Budget: slowest action meanwhile, s", "three hosts", hosts.slowest, 2),
        at_most("Budget: actions refused meanwhile", "three hosts", hosts.refused, 0),
    ]


@contextmanager
def _counted(azurite: AzuriteProcess) -> Iterator[tuple[CountingProxy, Callable[[int], str]]]:
    """A proxy before the emulator, and the connection strings of its accounts through it."""
    services = tuple(url.rpartition("/")[0] for url in azurite.urls)
    with CountingProxy(services) as proxy:

        def account(number: int) -> str:
            connection = azurite.account(number)
            for real, ours in zip(services, proxy.urls, strict=True):
                connection = connection.replace(real, ours)
            Storage(StorageAccount(connection_string=connection)).ready()
            return connection

        yield proxy, account


def _operations(proxy: CountingProxy) -> int:
    """Requests to table `budget` so far, with any outcome."""
    return sum(count for name, count in proxy.requests.items() if name.endswith("/budget"))


def _cost(proxy: CountingProxy, connection: str, processes: int) -> float:
    before = _operations(proxy)
    plan: dict[str, Any] = {"connection": connection, "account": uuid.uuid4().hex, "lanes": _FLAT_OUT}
    plan |= {"scale": _SCALE, "seconds": _WINDOWS * _WINDOW * _SCALE}
    command = [sys.executable, "-m", "tests.spending", json.dumps(plan)]
    crew = [subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    calls = sum(len(json.loads(process.communicate()[0])["grants"]) for process in crew)
    return (_operations(proxy) - before) / calls


@dataclass(kw_only=True, slots=True)
class _Hosts:
    """What three hosts did: storage operations a call, most calls in a window, slowest action in s, refused ones."""

    cost: float
    most: float
    slowest: float
    refused: int


@dataclass(slots=True)
class _Load:
    """Requests to hosts until the end, each kind from a thread of its own."""

    until: float
    waits: list[float] = field(default_factory=list)
    refused: int = 0

    def polls(self, host: HostProcess, function: str) -> None:
        with _session() as session:
            while time.monotonic() < self.until:
                session.post(f"{host.url}/admin/functions/{function}", json={"input": ""}, timeout=30)

    def actions(self, hosts: list[HostProcess]) -> None:
        turn = 0
        with _session() as session:
            while (began := time.monotonic()) < self.until:
                host = hosts[turn % len(hosts)]
                turn += 1
                answer = session.get(f"{host.url}/api/v2/contacts/{_CONTACT}", timeout=30)
                self.waits.append(time.monotonic() - began)
                self.refused += answer.status_code != 200
                threading.Event().wait(_ACTION_EVERY)


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def _run_hosts(proxy: CountingProxy, connection: str) -> _Hosts:
    """Real time from a cold start: all polls triggered without pause, recordings copied, actions asked for."""
    with SimulatorProcess() as pbx, ExitStack() as running:
        pbx.control("POST", "items", resource="contacts", id=_CONTACT, firstname="Anna")
        environment = {"DataStorage": connection, "PBX_BASE_URL": pbx.base_url, "PBX_API_KEY": pbx.api_key}
        environment |= {"PYTHON_THREADPOOL_THREAD_COUNT": _THREADS}
        _queue_recordings(pbx, Storage(StorageAccount(connection_string=connection)))
        names = (*(row.function for row in RESOURCES), "CopyMedia", "GetContactsByID")
        before = _operations(proxy)
        hosts = [running.enter_context(HostProcess(_ROOT, env=environment, functions=names)) for _ in range(_HOSTS)]
        _warm(hosts)
        load = _Load(time.monotonic() + _HOST_SECONDS)
        crew = [threading.Thread(target=load.polls, args=(host, row.function)) for host in hosts for row in RESOURCES]
        crew.append(threading.Thread(target=load.actions, args=(hosts,)))
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        times = sorted(row["at"] for row in pbx.control("GET", "requests") if row["operation"])
        cost = (_operations(proxy) - before) / len(times)
    return _Hosts(cost=cost, most=_most(times), slowest=max(load.waits), refused=load.refused)


def _warm(hosts: list[HostProcess]) -> None:
    """Have each host answer once: what a start costs is a figure of its own."""
    with _session() as session:
        for host in hosts:
            session.get(f"{host.url}/api/v2/contacts/{_CONTACT}", timeout=30).raise_for_status()


def _queue_recordings(pbx: SimulatorProcess, storage: Storage) -> None:
    made = pbx.control("POST", "bulk", resource="call_records", count=_RECORDINGS)
    for id in range(made["first"], made["last"] + 1, (made["last"] - made["first"]) // (_RECORDINGS - 1)):
        ids = {"kind": "recording", "id": id, "event": f"bench{id}", "callID": id, "received": iso(now())}
        send(storage, "media", {**ids, "action": "copy", "attempt": 0}, name=f"recording-{id}")


def _most(times: list[float]) -> int:
    """The most of these moments that fall into one window."""
    first = most = 0
    for last, moment in enumerate(times):
        while moment - times[first] >= _WINDOW:
            first += 1
        most = max(most, last - first + 1)
    return most
