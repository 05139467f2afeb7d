"""A subscriber far behind: it costs next to nothing while it is dead, and has everything in order once it is back."""

from __future__ import annotations

import time
from threading import Event
from typing import TYPE_CHECKING

import requests

from dev.backlog import fill
from dev.listener import Answer, Listener, Received
from shared.api.subscribe import ID_HEADER
from shared.deliveries.posts import LINED_UP

if TYPE_CHECKING:
    from dev.drill.world import World

# Bounds from two minutes after the last event on; a short outage is watched from the middle on.
_CALM_SECONDS = 120.0
_MOST_EXECUTIONS = 12
_MOST_MESSAGES = 12
_LEAST_RATE = 20.0
# Twenty places an event that is sent; so the usual 500 are the bound's 10,000.
_PLACES = 20
# The wait of a subscriber that is down doubles: it is back in sight within about as long as it was gone.
_PATIENCE = 4.0
_FUNCTION = "Deliver"


def far_behind(world: World) -> None:
    """An outbox is filled while its subscriber is dead; runs and messages are counted, and then the catching up."""
    back, count = Event(), world.events * _PLACES
    status = world.random.choice((500, 503, 404))

    def answer(_: Received) -> Answer:
        return (200 if back.is_set() else status), {}

    with Listener(answer) as listener:
        url = f"{world.url}/api/v2/webhooks/CallCompleted"
        made = requests.post(url, json={"endpoint": listener.url}, timeout=30)
        made.raise_for_status()
        world.say(f"{count:,} places for a subscriber that answers {status} for {world.outage:g} s")
        ids = fill(world.storage, made.headers[ID_HEADER], count)
        _check_calm(world)
        tried = len(listener.received)
        world.check(f"{tried} posts while it was dead", tried <= 2 * LINED_UP + world.outage)
        back.set()
        _check_back(world, listener, ids, tried)


def _check_calm(world: World) -> None:
    time.sleep(min(_CALM_SECONDS, world.outage / 2))
    began, before = time.monotonic(), world.executions(_FUNCTION)
    time.sleep(max(world.outage - _CALM_SECONDS, world.outage / 2))
    minutes = max((time.monotonic() - began) / 60, 1)
    rate = (world.executions(_FUNCTION) - before) / minutes
    world.check(f"{rate:.1f} executions a minute", rate <= _MOST_EXECUTIONS)
    messages = world.storage.queue("deliveries").get_queue_properties().approximate_message_count or 0
    world.check(f"{messages} messages wait", messages <= _MOST_MESSAGES)


def _check_back(world: World, listener: Listener, ids: list[str], tried: int) -> None:
    patience = world.outage * _PATIENCE + len(ids) / _LEAST_RATE + 30
    world.recovered(lambda: {one.id for one in listener.received[tried:]} >= set(ids), patience)
    received = listener.received[tried:]
    got = [one.id for one in received]
    world.check(f"all {len(ids):,} came once ({len(got):,})", len(got) == len(set(got)) and set(got) == set(ids))
    apart = max((abs(got.index(id) - place) for place, id in enumerate(ids) if id in got), default=0)
    world.check(f"in order but for {apart} places", apart <= LINED_UP)
    rate = len(got) / max(received[-1].time - received[0].time, 0.05) if received else 0.0
    world.check(f"{rate:.0f} a second", rate >= _LEAST_RATE)
