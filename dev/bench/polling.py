"""Polling new items into storage, against bare paging of the same list with batch inserts."""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING, Any

from dev.azurite import AzuriteProcess
from dev.bench.counting import CountingProxy
from dev.bench.figures import Figure, at_least, at_most, seconds
from dev.simulator import SimulatorProcess
from shared.bridge import Bridge, assemble
from shared.json_bodies import encode
from shared.pbx.client import Pbx
from shared.pbx.resources import resource
from shared.polling.poll import poll
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.pbx.budget import Budget

_CALLS = resource("call_history")
_MANY, _FEW = 10_000, 1_000
_ROUNDS = 3
_PAGE = 1000
_BATCH = 100
_accounts = itertools.count()


class _Unlimited:
    """A budget without end: what it costs is a figure of its own."""

    def take(self, lane: str) -> None:
        """Returns at once."""


def _budget() -> Budget:
    unlimited: Any = _Unlimited()
    budget: Budget = unlimited
    return budget


def _bridge(connection_string: str, simulator: SimulatorProcess) -> Bridge:
    environment = {
        "DataStorage": connection_string,
        "PBX_BASE_URL": simulator.base_url,
        "PBX_API_KEY": simulator.api_key,
    }
    bridge = assemble(Settings.from_env(environment))
    bridge.storage.ready()
    return Bridge(bridge.settings, bridge.storage, Pbx(bridge.settings, _budget()))


def _bare(bridge: Bridge, above: int) -> None:
    """Page the list and insert what it brings, a hundred rows at a time."""
    table, offset = bridge.storage.table("resources"), 0
    while found := bridge.pbx.call(
        "GetCallHistory", lane="poll", initial_call_id=above, limit=_PAGE, offset=offset or None
    ):
        offset += len(found)
        for start in range(0, len(found), _BATCH):
            rows = [
                {"PartitionKey": "bare", "RowKey": f"{item['callID']:020d}", "item": encode(item).decode()}
                for item in found[start : start + _BATCH]
            ]
            table.submit_transaction([("create", row) for row in rows])


class _Rounds:
    """Times both ways with new items for each round, in an account of its own."""

    def __init__(self, azurite: AzuriteProcess, simulator: SimulatorProcess) -> None:
        self._azurite = azurite
        self._simulator = simulator

    def _bridge(self) -> tuple[Bridge, int]:
        bridge = _bridge(self._azurite.account(next(_accounts)), self._simulator)
        self._simulator.control("POST", "reset")
        self._simulator.control("POST", "bulk", resource="call_history", count=1)
        poll(bridge, _CALLS)
        items = bridge.pbx.call("GetCallHistory", lane="poll", initial_call_id=0)
        return bridge, int(items[0]["callID"])

    def ours(self, count: int) -> float:
        """Seconds for one poll that finds so many new items."""
        bridge, _ = self._bridge()
        self._simulator.control("POST", "bulk", resource="call_history", count=count)
        return seconds(lambda: poll(bridge, _CALLS))

    def bare(self, count: int) -> float:
        """Seconds for the same without checkpoint, hashes, arrivals and marks."""
        bridge, last = self._bridge()
        self._simulator.control("POST", "bulk", resource="call_history", count=count)
        return seconds(lambda: _bare(bridge, last))


def _idle(azurite: AzuriteProcess, simulator: SimulatorProcess) -> list[float]:
    """Calls to the PBX, reads and writes of storage that a poll without news takes."""
    counted = azurite.account(next(_accounts))
    services = tuple(url.rpartition("/")[0] for url in azurite.urls)
    with CountingProxy(services) as proxy:
        for real, ours in zip(services, proxy.urls, strict=True):
            counted = counted.replace(real, ours)
        bridge = _bridge(counted, simulator)
        poll(bridge, _CALLS)
        simulator.control("DELETE", "requests")
        proxy.requests.clear()
        poll(bridge, _CALLS)
        reads = sum(count for name, count in proxy.requests.items() if name.startswith("GET"))
        asked = len(simulator.control("GET", "requests"))
        return [float(asked), float(reads), float(proxy.count - reads)]


def figures() -> list[Figure]:
    """
    Throughput, growth, and what silence costs.

    The emulator takes longer for each row the more rows a partition has, so growth is that of ours over that of
    the bare way.
    """
    with AzuriteProcess(accounts=100) as azurite, SimulatorProcess() as simulator:
        rounds = _Rounds(azurite, simulator)
        shares, growths = [], []
        for _ in range(_ROUNDS):
            few = rounds.bare(_FEW) / rounds.ours(_FEW)
            many = rounds.bare(_MANY) / rounds.ours(_MANY)
            shares.append(many)
            growths.append(few / many)
        calls, reads, writes = _idle(azurite, simulator)
    bare = "bare paging plus batch inserts"
    return [
        at_least(f"Polling {_MANY:,} new items into storage", bare, statistics.median(shares), 0.7),
        at_most(f"Growth from {_FEW:,} to {_MANY:,} items", f"the growth of {bare}", statistics.median(growths), 1.2),
        at_most("Idle poll: calls to the PBX, budget aside", "counted", calls, 1),
        at_most("Idle poll: storage reads, budget aside", "counted", reads, 1),
        at_most("Idle poll: storage writes, budget aside", "counted", writes, 0),
    ]
