"""From an event to outboxes: once each, also for those of whom not every instance knows yet."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.api.subscribe import subscribe
from shared.deliveries.fanout import fan_out
from shared.events.event import event_of, submit
from shared.pipeline.process import process
from shared.pipeline.replay import run_range
from shared.subscriptions.store import subscriptions
from shared.times import now
from tests.breaking import break_connections
from tests.outbox import outbox
from tests.shared.deliveries.subscriber import happen, markers, places, subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bridge import Bridge
    from tests.outbox import Outbox as Sent

NOWHERE = "http://127.0.0.1:9/"


def test_an_event_that_comes_twice_has_one_place_and_wakes_twice(
    start_bridge: Callable[..., Bridge], bridge: Bridge, sent: Sent
) -> None:
    one = subscription(bridge, NOWHERE)
    submit(bridge.storage, bridge.settings, "CallCompleted", {"callID": 5}, origin="webhook")
    (message,) = sent.take("events")
    doomed = start_bridge()
    # A death between the outbox and the message leaves nobody who would look.
    break_connections(doomed.storage, "POST", "/deliveries/messages", times=9, after=False)
    with pytest.raises(ExceptionGroup):
        process(doomed, message.message)
    assert len(places(bridge, one)) == len(markers(bridge, one)) == 1
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: process(bridge, message.message | {"begun": True}), range(4)))
    assert len(places(bridge, one)) == len(markers(bridge, one)) == 1
    assert sent.take()


def test_a_place_whose_answer_got_lost_is_there_once(bridge: Bridge, sent: Sent) -> None:
    one = subscription(bridge, NOWHERE)
    submit(bridge.storage, bridge.settings, "CallCompleted", {"callID": 5}, origin="webhook")
    (message,) = sent.take("events")
    break_connections(bridge.storage, "POST", "$batch")
    for _ in range(2):
        fan_out(bridge, event_of(message.message))
    assert len(places(bridge, one)) == 1


def test_an_event_older_than_its_subscription_is_not_for_it(bridge: Bridge, sent: Sent) -> None:
    old = subscription(bridge, NOWHERE, created=now() - timedelta(hours=1))
    young = subscription(bridge, f"{NOWHERE}young", created=now() + timedelta(hours=1))
    happen(bridge, sent)
    assert (len(places(bridge, old)), len(places(bridge, young))) == (1, 0)


def test_what_happens_before_other_instances_know_of_a_subscriber_is_caught_up(
    start_bridge: Callable[..., Bridge],
) -> None:
    here, there = start_bridge(), start_bridge()
    here.storage.ready()
    ours, theirs = outbox(here.storage), outbox(there.storage)
    happen(there, theirs)
    body = json.dumps({"endpoint": NOWHERE}).encode()
    subscribe(here, "CallCompleted", body, "https://bridge.example")
    (look,) = ours.take()
    assert look.delay > 5
    # That instance does not know of it yet.
    assert happen(there, theirs) == []
    happen(here, ours)
    (one,) = subscriptions(here).all()
    assert len(places(here, one)) == 1
    for _ in range(2):
        run_range(here, look.message)
    assert len(places(here, one)) == 2


def test_a_repeated_request_asks_for_no_second_look(bridge: Bridge, sent: Sent) -> None:
    for _ in range(3):
        subscribe(bridge, "CallCompleted", json.dumps({"endpoint": NOWHERE}).encode(), "https://bridge.example")
    assert len(sent.take()) == 1
