"""The receivers' throughput and latency, against a bare function in the same host."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import statistics

import aiohttp
from azure.core.exceptions import ResourceExistsError

from dev.azurite import AzuriteProcess
from dev.bench.app import App
from dev.bench.figures import ROUNDS, Figure, at_least, at_most
from dev.processes import ROOT, HostProcess

_CONNECTIONS = 16
_REQUESTS = 1600
_ids = itertools.count(1524664459097344)


def _body() -> bytes:
    data = {
        "callID": next(_ids),
        "caller": "27771153",
        "destination": "+37167000123",
        "direction": "in",
        "status": 1,
        "callStarted": "2018-04-25T13:54:19+0000",
        "contactID": 966,
    }
    return json.dumps({"type": "Event", "eventType": "CallStarted", "version": "v1", "data": data}).encode()


async def _load(url: str) -> tuple[float, float]:
    """Send all requests; return requests per second and the 99th percentile of their seconds."""
    loop, took = asyncio.get_running_loop(), []
    bodies = iter([_body() for _ in range(_REQUESTS)])
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:

        async def connection() -> None:
            for body in bodies:
                start = loop.time()
                async with session.post(url, data=body) as answer:
                    await answer.read()
                    if answer.status != 202:
                        raise RuntimeError(f"{url} answered {answer.status}")
                took.append(loop.time() - start)

        start = loop.time()
        await asyncio.gather(*(connection() for _ in range(_CONNECTIONS)))
        elapsed = loop.time() - start
    return _REQUESTS / elapsed, statistics.quantiles(took, n=100)[98]


def figures() -> list[Figure]:
    """Return the throughput and 99th percentile, each as the median of the rounds' ratios."""
    with (
        # Only the receiver: in Azure the queue's function runs on other instances; here it would share the cores.
        AzuriteProcess() as azurite,
        App(azurite.connection_string, "OnCallStarted") as ours,
        HostProcess(ROOT / "dev/bench/bare_app", env={"DataStorage": azurite.connection_string}) as bare,
    ):
        with contextlib.suppress(ResourceExistsError):
            ours.storage.queue("bare").create_queue()
        rates, tails = _rounds(f"{ours.url}/api/events/CallStarted", f"{bare.url}/api/bare")
    limit = "a bare function that only queues the body"
    return [
        at_least("Receiver throughput, 16 connections", limit, rates, 0.85),
        at_most("Receiver p99 latency", limit, tails, 1.3),
    ]


def _rounds(ours: str, bare: str) -> tuple[float, float]:
    for url in (bare, ours):
        asyncio.run(_load(url))
    rates, tails = [], []
    for _ in range(ROUNDS):
        bare_rate, bare_tail = asyncio.run(_load(bare))
        our_rate, our_tail = asyncio.run(_load(ours))
        rates.append(our_rate / bare_rate)
        tails.append(our_tail / bare_tail)
    return statistics.median(rates), statistics.median(tails)
