"""Deliveries against bare posts with the same concurrency, and executions for a dead subscriber."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from requests.adapters import HTTPAdapter

from dev.azurite import AzuriteProcess
from dev.bench.app import App, until
from dev.bench.figures import Figure, at_least, at_most, seconds
from dev.bench.subscriber import Subscriber

_EVENTS, _SUBSCRIBERS = 50, 20
# About the answer time of a workflow's trigger.
_ANSWER_SECONDS = 0.2
_WORKERS = 16
_FIRST_CALL = 1_524_664_459_097_344
_DEAD = "http://127.0.0.1:9/dead"
_BEHIND, _IGNORED_SECONDS, _COUNTED_SECONDS = 500, 120.0, 120.0
_EVENTS_IN = ("OnCallCompleted", "ProcessEvent", "Subscribe")


def figures() -> list[Figure]:
    """Return the throughput as a ratio, the app's CPU seconds, and executions a minute for a dead subscriber."""
    # On disk, since the in-memory emulator pauses for half a minute now and then after so many messages.
    with TemporaryDirectory() as data, AzuriteProcess(location=Path(data), accounts=2) as azurite:
        with Subscriber(_ANSWER_SECONDS) as subscriber:
            ratio, cpu = _deliver(azurite.account(0), subscriber)
        with App(azurite.account(1), *_EVENTS_IN, "Deliver") as app:
            executions = _executions(app)
    deliveries = f"{_EVENTS * _SUBSCRIBERS:,} deliveries"
    return [
        at_least(f"{deliveries}, answered in {_ANSWER_SECONDS * 1000:.0f} ms", "bare posts, 16 at once", ratio, 0.7),
        at_most(f"{deliveries}: CPU s, user and system", "the app's process alone", cpu, 5),
        at_most("Executions a minute for a dead subscriber", f"{_BEHIND} events behind, for 120 s", executions, 12),
    ]


def _subscribe(app: App, endpoint: str) -> None:
    url = f"{app.url}/api/v2/webhooks/CallCompleted"
    app.session.post(url, json={"endpoint": endpoint}, timeout=60).raise_for_status()


def _happen(app: App, events: int) -> None:
    """Send events and wait until each is processed into every subscriber's outbox."""
    for number in range(events):
        app.send("CallCompleted", callID=_FIRST_CALL + number, caller="27771153", contactID=966, connectionTime=5)
    queue = app.storage.queue("events")
    until(lambda: not queue.get_queue_properties().approximate_message_count)


def _deliver(connection: str, subscriber: Subscriber) -> tuple[float, float]:
    """Return the time of the bare posts over the app's, and the app's CPU seconds."""
    urls = [f"{subscriber.url}/{number}" for number in range(_SUBSCRIBERS)]
    with App(connection, *_EVENTS_IN) as app:
        for url in urls:
            _subscribe(app, url)
        _happen(app, _EVENTS)
    counted = 0

    def delivered() -> bool:
        nonlocal counted
        counts = subscriber.counts()
        if set(counts.values()) > {1}:
            raise RuntimeError("an event was posted twice to a subscriber")
        counted += len(counts)
        return counted == _EVENTS * _SUBSCRIBERS

    with App(connection, "Deliver") as app:
        before = app.cpu()
        ours = seconds(lambda: until(delivered))
        cpu = app.cpu() - before
    return seconds(lambda: _bare(urls * _EVENTS)) / ours, cpu


def _bare(urls: list[str]) -> None:
    with requests.Session() as session, ThreadPoolExecutor(_WORKERS) as pool:
        session.trust_env = False
        session.mount("http://", HTTPAdapter(pool_maxsize=_WORKERS))
        list(pool.map(lambda url: session.post(url, json={"data": {"callID": 1}}, timeout=20), urls))


def _executions(app: App) -> float:
    _subscribe(app, _DEAD)
    _happen(app, _BEHIND)
    time.sleep(_IGNORED_SECONDS)
    before = app.executed("Deliver")
    time.sleep(_COUNTED_SECONDS)
    return (app.executed("Deliver") - before) * 60 / _COUNTED_SECONDS
