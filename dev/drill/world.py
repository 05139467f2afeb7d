"""The surroundings of a drill: the app in a host, and storage and a PBX behind proxies that can cut them off."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from dev.azurite import AzuriteProcess
from dev.drill.proxy import OPEN, Proxy
from dev.processes import ROOT, HostProcess, without_timers
from dev.simulator import SimulatorProcess
from shared.settings import Settings
from shared.storage.account import POISON, QUEUES, Storage

_KEY = "drill"
SERVICES = ("Blob", "Queue", "Table")
FIRST_CALL = 1_524_664_459_097_344
TIMES = {"callStarted": "2018-04-25T13:54:19+0000", "callConnected": "2018-04-25T13:54:31+0000"}
# The app answers within this time, however storage fails.
_ANSWER_SECONDS = 5.0


def call_data(id: int) -> dict[str, Any]:
    """Return the fields of a call's event."""
    return {"callID": id, "caller": "27771153", "destination": "67000123", "contactID": 966, **TIMES}


@dataclass(kw_only=True)
class World:
    """
    The running app of a drill: `send` events, cut services off with `without`, and `check` the outcome.

    `storage` connects past the proxies. `outage` is in seconds; `events` is the number of events to send.
    """

    url: str
    start: Callable[[], HostProcess]
    storage: Storage
    pbx: SimulatorProcess
    proxies: dict[str, Proxy]
    random: random.Random
    outage: float
    events: int
    host: HostProcess = field(init=False)
    accepted: set[str] = field(default_factory=set)
    refused: int = 0
    slowest: float = 0.0
    away: bool = False
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host = self.start()

    def say(self, text: str) -> None:
        """Print a line of the report."""
        print(f"  {text}", flush=True)

    def check(self, expectation: str, met: bool) -> None:
        """Print an expectation and its result; the drill fails unless it is met."""
        self.say(f"{'ok  ' if met else 'FAIL'}  {expectation}")
        if not met:
            self.problems.append(expectation)

    def send(self, event: str, **data: Any) -> None:
        """Post an event as the PBX does; repeat it every second after 503, or while the app is `away`."""
        body = json.dumps({"type": "Event", "eventType": event, "version": "v1", "data": data}).encode()
        while True:
            began = time.monotonic()
            try:
                answer = requests.post(f"{self.url}/api/events/{event}?code={_KEY}", data=body, timeout=60)
            except requests.ConnectionError:
                if not self.away:
                    raise
            else:
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status_code != 503:
                    answer.raise_for_status()
                    self.accepted.add(answer.json()["id"])
                    return
                self.refused += 1
            time.sleep(1)

    @contextmanager
    def without(self, *gone: str, fault: str) -> Iterator[None]:
        """Cut services or the PBX off inside the block."""
        for name in gone:
            self.proxies[name].become(fault)
        try:
            yield
        finally:
            for name in gone:
                self.proxies[name].become(OPEN)

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> float | None:
        """Return the seconds until the condition holds; None if it does not hold within `seconds`."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() > began + seconds:
                return None
            time.sleep(0.5)
        return time.monotonic() - began

    def recovered(self, condition: Callable[[], bool], seconds: float) -> float | None:
        """Return the seconds until the condition holds and all queues are empty; None if that takes longer."""
        queues = [self.storage.queue(name) for name in QUEUES]
        return self.wait_for(
            lambda: condition() and not any(queue.get_queue_properties().approximate_message_count for queue in queues),
            seconds,
        )

    def ids(self, table: str) -> list[str]:
        """Return the event ids in table `events` or `feed`."""
        return [str(row["id"]) for row in self.storage.table(table).query_entities("id ne ''", select=["id"])]

    def check_nothing_lost(self, more: int | None = 0) -> None:
        """
        Check that each accepted event has one row and one feed entry, and that nothing is a dead letter or poison.

        `more` is the number of events beside the sent ones; None allows any number.
        """
        for table in ("events", "feed"):
            ids = self.ids(table)
            whole = self.accepted <= set(ids) and len(ids) == len(set(ids))
            whole = whole and more in (None, len(ids) - len(self.accepted))
            self.check(f"all {len(self.accepted)} accepted events are in table {table}, once ({len(ids)} rows)", whole)
        dead = [f"{row['kind']}: {row['reason']}" for row in self.storage.table("deadletters").list_entities()]
        self.check(f"no dead letter {'; '.join(dead[:3])}", not dead)
        poison = sum(len(self.storage.queue(name + POISON).peek_messages(max_messages=32)) for name in QUEUES)
        self.check("no poison message", not poison)
        slowest = f"the slowest in {self.slowest:.1f} s"
        self.check(f"each answer took less than {_ANSWER_SECONDS:g} s, {slowest}", self.slowest < _ANSWER_SECONDS)


@contextmanager
def world(settings: Mapping[str, str], seed: int, outage: float, events: int) -> Iterator[World]:
    """Start everything, and stop it afterwards; `{url}` in the drill's `settings` is the app's address."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        azurite = stack.enter_context(AzuriteProcess())
        pbx = stack.enter_context(SimulatorProcess())
        services = dict(zip(SERVICES, azurite.urls, strict=True)) | {"PBX": pbx.url}
        proxies = {name: stack.enter_context(Proxy(address)) for name, address in services.items()}
        behind = azurite.connection_string
        for name in SERVICES:
            behind = behind.replace(services[name].rpartition("/")[0], proxies[name].url)
        # Only the timer that looks after queues and the drill's own timers run by themselves.
        environment = {
            **without_timers(behind, f"{proxies['PBX'].url}/api/v2/", pbx.api_key),
            "AzureWebJobsStorage": azurite.connection_string,
            "PBX_WEBHOOK_KEY": _KEY,
            "LOOK_AFTER_SCHEDULE": "*/5 * * * * *",
            **{name: value.format(url=url) for name, value in settings.items()},
        }
        storage = Storage(Settings.from_env(environment | {"DataStorage": azurite.connection_string}).storage)
        storage.ready()
        # A message that could not be deleted is visible again after its lease: make that about the outage.
        lease, port = str(max(8, min(round(outage), 600))), int(url.rpartition(":")[2])
        made = World(
            url=url,
            start=lambda: HostProcess(ROOT, port, env=environment, arguments=("--lease-seconds", lease)),
            storage=storage,
            pbx=pbx,
            proxies=proxies,
            random=random.Random(seed),  # noqa: S311 - a drill is repeatable
            outage=outage,
            events=events,
        )
        try:
            yield made
        finally:
            made.host.stop()
