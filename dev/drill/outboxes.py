"""Subscribers that are dead, that hang, and that come back, beside one that is well."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from threading import Event
from typing import TYPE_CHECKING

import requests

from dev.drill.world import FIRST_CALL, call_data
from dev.listener import Answer, Listener, Received

if TYPE_CHECKING:
    from dev.drill.world import World

WELL, DEAD, HANGING, PICKY = "/well", "/dead", "/hanging", "/picky"
PATHS = (WELL, DEAD, HANGING, PICKY)
_LONGEST_POST = 20.0
# The wait of a subscriber that is down doubles: it is back in sight within about as long as it was gone.
_PATIENCE = 4.0
_MOST_MESSAGES = 12
# So much later, in the median, may those have their events who are well beside one that hangs.
_DELAY_SECONDS = 1.0
_WHOLE_SECONDS = 60.0
# A short outage may be over before a busy machine has done its work.
_BUSY_SECONDS = 15.0


def outboxes(world: World) -> None:
    """One subscriber is dead and one hangs while events arrive, one refuses a single event; then all are back."""
    back = Event()
    refused = FIRST_CALL + world.events + world.random.randrange(world.events)

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
        back.set()
        alone = _median(listener, _send(world, listener, world.events))
        back.clear()
        world.say(f"one dead, one hanging, one picky for {world.outage:g} s")
        began = time.monotonic()
        sent = _send(world, listener, world.events, first=world.events)
        time.sleep(max(0.0, began + world.outage - time.monotonic()))
        _check_calm(world, listener, sent, alone)
        gone = time.monotonic() - began
        back.set()
        _check_back(world, listener, sent, gone * _PATIENCE + 2 * _LONGEST_POST)


def _send(world: World, listener: Listener, count: int, first: int = 0) -> dict[str, float]:
    """Send events within half an outage, and wait until those who are well have them; when each was sent, by its id."""
    sent = dict[str, float]()
    for number in range(first, first + count):
        before = set(world.accepted)
        world.send("CallCompleted", **call_data(FIRST_CALL + number))
        (id,) = world.accepted - before
        sent[id] = time.monotonic()
        time.sleep(world.outage / 2 / count)
    expected = len(world.accepted)
    world.wait_for(lambda: all(len(listener.on(path)) >= expected for path in (WELL, PICKY)), _BUSY_SECONDS)
    return sent


def _median(listener: Listener, sent: dict[str, float]) -> float:
    """How long after its sending an event reaches the one who is well."""
    delays = [max(0.0, one.time - sent[one.id]) for one in listener.on(WELL) if one.id in sent]
    return statistics.median(delays) if delays else float("inf")


def _check_calm(world: World, listener: Listener, sent: dict[str, float], alone: float) -> None:
    """Those who are well have everything at once; those who are not cost little."""
    well = Counter(one.id for one in listener.on(WELL))
    world.check(f"all {len(sent)} events reached the one who is well, once", well == Counter(world.accepted))
    median = _median(listener, sent)
    text = f"in {median:.2f} s in the median, beside {alone:.2f} s with everybody well"
    # A short outage has no more than the first tries of those who are gone, which cost the most.
    most = alone + _DELAY_SECONDS if world.outage >= _WHOLE_SECONDS else 3 * (alone + _DELAY_SECONDS)
    world.check(text, median <= most)
    picky = {one.id for one in listener.on(PICKY)}
    world.check(f"a refused event held none of the others up ({len(picky)})", picky == world.accepted)
    world.wait_for(lambda: _messages(world) <= _MOST_MESSAGES, _BUSY_SECONDS)
    messages = _messages(world)
    world.check(f"{messages} messages wait", messages <= _MOST_MESSAGES)
    for path in (DEAD, HANGING):
        world.say(f"      {len(listener.on(path))} posts to {path}")


def _check_back(world: World, listener: Listener, sent: dict[str, float], seconds: float) -> None:
    """All have everything, in their own time."""
    returned, deadline = time.monotonic(), time.monotonic() + seconds
    missing = set(PATHS)
    while missing and time.monotonic() < deadline:
        missing = {
            path for path in PATHS if {one.id for one in listener.on(path)} != world.accepted or not _is_empty(world)
        }
        time.sleep(0.5)
    world.check(f"everybody has everything {time.monotonic() - returned:.0f} s after", not missing)
    for path in (DEAD, HANGING):
        times = [one.time for one in listener.on(path) if one.time > returned]
        counts = Counter(one.id for one in listener.on(path) if one.time > returned)
        world.check(f"{path} had nothing twice after it was back", not counts or max(counts.values()) == 1)
        rate = len(times) / max(max(times) - min(times), 0.05) if times else 0.0
        world.say(f"      {path} caught up {len(times)} events, {rate:.0f} a second")
    world.check_nothing_lost()


def _messages(world: World) -> int:
    return world.storage.queue("deliveries").get_queue_properties().approximate_message_count or 0


def _is_empty(world: World) -> bool:
    condition = "RowKey ge 'place-' and RowKey lt 'place~'"
    return not list(world.storage.table("deliveries").query_entities(condition, select=["RowKey"]))
