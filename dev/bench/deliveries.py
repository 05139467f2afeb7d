"""Deliveries to many subscribers, against bare posts; and all of them with one subscriber dead and one slow."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

from dev.azurite import AzuriteProcess
from dev.bench.figures import at_least, at_most, median_ratio, seconds
from dev.bench.subscriber import SLOW, Subscriber
from shared.bridge import Bridge, assemble
from shared.deliveries.drain import run
from shared.events.receive import submit
from shared.pipeline.process import process
from shared.settings import Settings
from shared.storage.messages import read
from shared.subscriptions.store import subscriptions
from shared.subscriptions.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.bench.figures import Figure

_SUBSCRIBERS = 20
_EVENTS, _ALL_EVENTS = 50, 1000
# The emulator takes ever longer for each message the more there are.
_AT_ONCE = 100
_WORKERS = 16
_BATCH = 16
# With nothing under way there may be something in a moment.
_LOOK_SECONDS = 0.2
# Seconds for a part of the deliveries, before what is missing counts as such.
_LONGEST = 300.0
# A workflow's trigger takes about so long to answer.
_ANSWER_SECONDS = 0.2
_QUICK_SECONDS = 0.02
_DEAD = "http://127.0.0.1:9/dead"
_ids: Iterator[int] = itertools.count(1524664459097344)


def _bridge(connection_string: str) -> Bridge:
    environment = {"DataStorage": connection_string, "PBX_BASE_URL": "http://127.0.0.1:9/", "PBX_API_KEY": "bench"}
    bridge = assemble(Settings.from_env(environment | {"ALLOW_LOOPBACK_CALLBACKS": "true"}))
    bridge.storage.ready()
    return bridge


def _subscribe(bridge: Bridge, urls: list[str]) -> None:
    for url in urls:
        subscriptions(bridge).make(Subscription.new(event="CallCompleted", endpoint=url))


def _happen(bridge: Bridge, count: int) -> None:
    """Have events on their way to everybody."""
    times = {"callStarted": "2018-04-25T13:54:19+0000", "callConnected": "2018-04-25T13:54:31+0000"}

    def one(number: int) -> None:
        data = {"callID": number, "caller": "27771153", "destination": "67000123", "contactID": 966, **times}
        submit(bridge.storage, bridge.settings, "CallCompleted", data, origin="webhook")

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(one, itertools.islice(_ids, count)))
    _work(bridge, "events", lambda message: process(bridge, message))


def _work(bridge: Bridge, name: str, handle: Any, finished: Event | None = None) -> None:
    """Handle a queue's messages, many at once as the host does, until none can be seen, or until `finished` is set."""
    queue = bridge.storage.queue(name)
    under_way: set[Future[None]] = set()

    def work(message: Any) -> None:
        handle(read(bridge.storage, message.content.encode()))
        queue.delete_message(message)

    with ThreadPoolExecutor(_WORKERS) as pool:
        while not (finished and finished.is_set()):
            if len(under_way) < _WORKERS:
                pages = queue.receive_messages(messages_per_page=_BATCH, visibility_timeout=120).by_page()
                under_way |= {pool.submit(work, message) for message in next(pages, ())}
            if not under_way:
                if finished is None and not queue.get_queue_properties().approximate_message_count:
                    return
                (finished or Event()).wait(_LOOK_SECONDS)
            done, under_way = wait(under_way, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
            for one in done:
                one.result()
    for one in under_way:
        one.result()


def _deliver(bridge: Bridge, finished: Event | None = None) -> None:
    _work(bridge, "deliveries", lambda message: run(bridge, message), finished)


def _bare(urls: list[str], count: int) -> None:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_maxsize=_WORKERS))
    body = json.dumps({"type": "Event", "eventType": "CallCompleted", "version": "v1", "data": {"callID": 1}})

    def post(url: str) -> None:
        session.post(url, data=body, timeout=20).raise_for_status()

    with session, ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(post, urls * count))


def _ratio(connection_string: str, subscriber: Subscriber) -> float:
    bridge = _bridge(connection_string)
    urls = [f"{subscriber.url}/{number}" for number in range(_SUBSCRIBERS)]
    _subscribe(bridge, urls)

    def ours() -> float:
        _happen(bridge, _EVENTS)
        taken = seconds(lambda: _deliver(bridge))
        counts = subscriber.counts()
        if set(counts.values()) != {1} or len(counts) != _EVENTS * _SUBSCRIBERS:
            raise RuntimeError("not every delivery came once")
        return taken

    def limit() -> float:
        taken = seconds(lambda: _bare(urls, _EVENTS))
        subscriber.counts()
        return taken

    return 1 / median_ratio(ours, limit)


def _lost_or_doubled(connection_string: str, subscriber: Subscriber) -> int:
    """How many deliveries were missing or doubled while one subscriber was dead and one slow."""
    bridge = _bridge(connection_string)
    healthy = [f"{subscriber.url}/{number}" for number in range(_SUBSCRIBERS - 2)]
    _subscribe(bridge, [_DEAD, subscriber.url + SLOW, *healthy])
    delivered: Counter[tuple[str, str]] = Counter()
    for chunk in range(1, _ALL_EVENTS // _AT_ONCE + 1):
        _happen(bridge, _AT_ONCE)
        finished, deadline = Event(), time.monotonic() + _LONGEST
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(_deliver, bridge, finished)
            while (
                len(delivered) < chunk * _AT_ONCE * len(healthy) and time.monotonic() < deadline and not working.done()
            ):
                finished.wait(0.5)
                counts = subscriber.counts().items()
                delivered.update({key: count for key, count in counts if key[0] != SLOW})
            finished.set()
            working.result()
        print(f"{len(delivered):,} of {_ALL_EVENTS * len(healthy):,}", file=sys.stderr, flush=True)
    delivered.update({key: count for key, count in subscriber.counts().items() if key[0] != SLOW})
    return _ALL_EVENTS * len(healthy) - len(delivered) + sum(count - 1 for count in delivered.values())


@contextmanager
def _emulator() -> Iterator[AzuriteProcess]:
    """The emulator on disk: in memory it stops for half a minute now and then, to tidy up after so many messages."""
    with TemporaryDirectory() as data, AzuriteProcess(location=Path(data)) as azurite:
        yield azurite


def figures() -> list[Figure]:
    """Deliveries in the time of bare posts, and deliveries that were lost or doubled."""
    with _emulator() as azurite, Subscriber(_ANSWER_SECONDS) as subscriber:
        ratio = _ratio(azurite.connection_string, subscriber)
    with _emulator() as azurite, Subscriber(_QUICK_SECONDS) as subscriber:
        wrong = _lost_or_doubled(azurite.connection_string, subscriber)
    name = f"Deliveries: {_EVENTS} events × {_SUBSCRIBERS} subscribers, answered in {_ANSWER_SECONDS * 1000:.0f} ms"
    return [
        at_least(name, "bare posts with the same concurrency", ratio, 0.7),
        at_most(
            f"Missing or doubled of {_ALL_EVENTS:,} events × {_SUBSCRIBERS}, one dead, one slow",
            f"{_ALL_EVENTS * (_SUBSCRIBERS - 2):,} deliveries to the others",
            wrong,
            0,
        ),
    ]
