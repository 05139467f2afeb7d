"""A subscriber that is far behind: what it costs while it is dead, and how fast it catches up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import requests
from requests.adapters import HTTPAdapter

from dev.azurite import AzuriteProcess
from dev.backlog import BODY, fill
from dev.bench.figures import at_least, at_most, seconds
from dev.bench.subscriber import Subscriber
from shared.bridge import assemble
from shared.deliveries.drain import drain
from shared.deliveries.posts import QUICK
from shared.settings import Settings
from shared.subscriptions.store import subscriptions
from shared.subscriptions.subscription import Subscription

if TYPE_CHECKING:
    from dev.bench.figures import Figure
    from shared.bridge import Bridge

_BEHIND, _CAUGHT_UP = 10_000, 5_000
# A workflow's trigger takes about so long to answer.
_ANSWER_SECONDS = 0.2
_MINUTES = 3
_DEAD = "http://127.0.0.1:9/dead"


def _bridge(connection_string: str) -> Bridge:
    environment = {"DataStorage": connection_string, "PBX_BASE_URL": "http://127.0.0.1:9/", "PBX_API_KEY": "bench"}
    bridge = assemble(Settings.from_env(environment | {"ALLOW_LOOPBACK_CALLBACKS": "true"}))
    bridge.storage.ready()
    return bridge


def _behind(bridge: Bridge, endpoint: str, count: int) -> Subscription:
    """A subscriber with so many events in its outbox."""
    one, _ = subscriptions(bridge).make(Subscription.new(event="CallCompleted", endpoint=endpoint))
    fill(bridge.storage, one.id, count)
    return one


def _executions(bridge: Bridge, count: int) -> float:
    """Messages that a dead subscriber has handled a minute, from two minutes after its last event on."""
    one, queue = _behind(bridge, _DEAD, count), bridge.storage.queue("deliveries")
    drain(bridge, one.id)
    began, handled = time.monotonic(), 0
    while (passed := time.monotonic() - began) < _MINUTES * 60:
        for message in queue.receive_messages(messages_per_page=16):
            drain(bridge, one.id)
            queue.delete_message(message)
            handled += passed > 120
        time.sleep(1)
    return handled / (_MINUTES - 2)


def _ratio(bridge: Bridge, subscriber: Subscriber, count: int) -> float:
    """Catching up against bare posts with the same concurrency."""
    one = _behind(bridge, subscriber.url, count)

    def ours() -> None:
        got = 0
        while got < count:
            drain(bridge, one.id)
            counts = subscriber.counts()
            if set(counts.values()) > {1}:
                raise RuntimeError("something was posted twice")
            got += len(counts)

    def bare() -> None:
        with requests.Session() as session, ThreadPoolExecutor(QUICK) as pool:
            session.trust_env = False
            session.mount("http://", HTTPAdapter(pool_maxsize=QUICK))
            list(pool.map(lambda _: session.post(subscriber.url, data=BODY, timeout=20), range(count)))
        subscriber.counts()

    limit = seconds(bare)
    return limit / seconds(ours)


def figures(behind: int = _BEHIND, caught_up: int = _CAUGHT_UP) -> list[Figure]:
    """Executions a minute, and the catching up in the time of bare posts."""
    with AzuriteProcess(accounts=2) as azurite, Subscriber(_ANSWER_SECONDS) as subscriber:
        ratio = _ratio(_bridge(azurite.account(0)), subscriber, caught_up)
        executions = _executions(_bridge(azurite.account(1)), behind)
    name = f"Catching up on {caught_up:,} events, answered in {_ANSWER_SECONDS * 1000:.0f} ms"
    return [
        at_least(name, f"bare posts, {QUICK} at once as well", ratio, 0.7),
        at_most(f"Executions a minute for a dead subscriber {behind:,} events behind", "", executions, 12),
    ]
