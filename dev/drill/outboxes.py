"""Subscribers that are dead, that hang, and that come back, beside one that is well."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from threading import Event
from typing import TYPE_CHECKING

import requests

from dev.listener import Answer, Listener, Received

if TYPE_CHECKING:
    from dev.drill.world import World

WELL, DEAD, HANGING, PICKY = "/well", "/dead", "/hanging", "/picky"
PATHS = (WELL, DEAD, HANGING, PICKY)
_TIMES = {"callStarted": "2018-04-25T13:54:19+0000", "callConnected": "2018-04-25T13:54:31+0000"}
_FIRST_CALL = 1_524_664_459_097_344
_LONGEST_POST = 20.0
# The wait of a subscriber that is down doubles: it is back in sight within about as long as it was gone.
_PATIENCE = 4.0
_MOST_MESSAGES = 12
# Two hops over queues that the host looks at every second or two.
_MEDIAN_SECONDS = 2.0


def outboxes(world: World) -> None:
    """One subscriber is dead and one hangs while events arrive, one refuses a single event; then all are back."""
    back, began, sent = Event(), time.monotonic(), dict[str, float]()
    refused = _FIRST_CALL + world.random.randrange(world.events)

    def answer(received: Received) -> Answer:
        if received.path == DEAD and not back.is_set():
            return 500, {}
        if received.path == HANGING and not back.is_set():
            back.wait(_LONGEST_POST + 5)
        picky = received.path == PICKY and received.json()["data"]["callID"] == refused
        return (422 if picky and not back.is_set() else 200), {}

    with Listener(answer) as listener:
        for path in PATHS:
            url = f"{world.url}/api/v2/webhooks/CallCompleted"
            requests.post(url, json={"endpoint": listener.origin + path}, timeout=30).raise_for_status()
        world.say(f"one dead, one hanging, one picky for {world.outage:g} s")
        for number in range(world.events):
            data = {"callID": _FIRST_CALL + number, "caller": "27771153", "destination": "67000123", "contactID": 966}
            before = set(world.accepted)
            world.send("CallCompleted", **data, **_TIMES)
            (id,) = world.accepted - before
            sent[id] = time.monotonic()
            time.sleep(world.outage / 2 / world.events)
        time.sleep(max(0.0, began + world.outage - time.monotonic()))
        _check_calm(world, listener, sent)
        gone = time.monotonic() - began
        back.set()
        _check_back(world, listener, sent, gone * _PATIENCE + 2 * _LONGEST_POST)


def _check_calm(world: World, listener: Listener, sent: dict[str, float]) -> None:
    """Those who are well have everything at once; those who are not cost little."""
    delays = [max(0.0, one.time - sent[one.id]) for one in listener.on(WELL)]
    world.check(f"all {len(sent)} events reached the one who is well, once", len(delays) == len(sent))
    median = statistics.median(delays) if delays else float("inf")
    world.check(f"in {median:.2f} s in the median", median <= _MEDIAN_SECONDS)
    picky = {one.id for one in listener.on(PICKY)}
    world.check(f"a refused event held none of the others up ({len(picky)})", picky == set(sent))
    messages = world.storage.queue("deliveries").get_queue_properties().approximate_message_count or 0
    world.check(f"{messages} messages wait", messages <= _MOST_MESSAGES)
    for path in (DEAD, HANGING):
        world.say(f"      {len(listener.on(path))} posts to {path}")


def _check_back(world: World, listener: Listener, sent: dict[str, float], seconds: float) -> None:
    """All have everything, in their own time."""
    returned, deadline = time.monotonic(), time.monotonic() + seconds
    missing = set(PATHS)
    while missing and time.monotonic() < deadline:
        missing = {path for path in PATHS if {one.id for one in listener.on(path)} != set(sent) or not _is_empty(world)}
        time.sleep(0.5)
    world.check(f"everybody has everything {time.monotonic() - returned:.0f} s after", not missing)
    for path in (DEAD, HANGING):
        times = [one.time for one in listener.on(path) if one.time > returned]
        counts = Counter(one.id for one in listener.on(path) if one.time > returned)
        world.check(f"{path} had nothing twice after it was back", not counts or max(counts.values()) == 1)
        rate = len(times) / max(max(times) - min(times), 0.05) if times else 0.0
        world.say(f"      {path} caught up {len(times)} events, {rate:.0f} a second")
    world.check_nothing_lost()


def _is_empty(world: World) -> bool:
    condition = "RowKey ge 'place-' and RowKey lt 'place~'"
    return not list(world.storage.table("deliveries").query_entities(condition, select=["RowKey"]))
