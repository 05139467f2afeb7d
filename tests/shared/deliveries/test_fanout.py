"""From an event to outboxes: once each, also for those of whom not everybody knows yet."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.api import subscribe as subscribing
from shared.deliveries import fanout
from shared.deliveries.drain import drain, run
from shared.deliveries.fanout import catch_up, fan_out, send_range
from shared.deliveries.wakes import AT_ONCE, GATHER_SECONDS, Wakes
from shared.events.event import event_of
from shared.events.receive import submit
from shared.pipeline.process import process
from shared.subscriptions.store import Subscriptions, subscriptions
from shared.times import iso, now
from tests.breaking import break_connections
from tests.outbox import outbox
from tests.shared.deliveries.subscriber import happen, markers, places, subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.listener import Listener
    from shared.bridge import Bridge
    from shared.subscriptions.subscription import Subscription
    from tests.outbox import Outbox as Sent


class Clock:
    """A clock that the test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_an_event_that_comes_twice_has_one_place_and_wakes_twice(
    start_bridge: Callable[..., Bridge], bridge: Bridge, sent: Sent
) -> None:
    one = subscription(bridge, "http://127.0.0.1:9/")
    submit(bridge.storage, bridge.settings, "CallCompleted", {"callID": 5}, origin="webhook")
    (message,) = sent.take("events")
    doomed = start_bridge()
    # Who is killed between the outbox and the message leaves nobody who would look.
    break_connections(doomed.storage, "POST", "/deliveries/messages", times=9, after=False)
    with pytest.raises(ExceptionGroup):
        process(doomed, message.message)
    assert len(places(bridge, one)) == len(markers(bridge, one)) == 1
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: process(bridge, message.message | {"begun": True}), range(4)))
    assert len(places(bridge, one)) == len(markers(bridge, one)) == 1
    assert sent.take()


def test_a_place_whose_answer_got_lost_is_there_once_and_looked_at(bridge: Bridge, sent: Sent) -> None:
    one = subscription(bridge, "http://127.0.0.1:9/")
    submit(bridge.storage, bridge.settings, "CallCompleted", {"callID": 5}, origin="webhook")
    (message,) = sent.take("events")
    break_connections(bridge.storage, "POST", "$batch")
    fan_out(bridge, event_of(message.message))
    assert len(places(bridge, one)) == 1
    fan_out(bridge, event_of(message.message))
    assert len(places(bridge, one)) == 1


def test_messages_are_gathered_and_none_is_missing(bridge: Bridge, sent: Sent) -> None:
    clock = Clock()
    wakes = Wakes(bridge.storage, clock)
    written, seen = [], []
    for step in range(100):
        clock.seconds = step * 0.05
        wakes.wake("one")
        written.append(clock.seconds)
        seen += [clock.seconds + message.delay for message in sent.take()]
    assert seen[0] == 0
    assert len(seen) <= 100 * 0.05 / GATHER_SECONDS + 2 + AT_ONCE
    assert all(any(moment <= one <= moment + 2 * GATHER_SECONDS for one in seen) for moment in written)
    clock.seconds += 10
    for _ in range(5):
        clock.seconds += 0.3
        wakes.wake("one")
    assert [message.delay for message in sent.take()] == [0] * 5
    wakes.wake("other")
    assert [message.delay for message in sent.take()] == [0]


def test_what_happens_before_other_instances_know_of_a_subscriber_is_caught_up(
    start_bridge: Callable[..., Bridge], listener: Listener
) -> None:
    here, there = start_bridge(), start_bridge()
    here.storage.ready()
    ours, theirs = outbox(here.storage), outbox(there.storage)
    assert happen(there, theirs) == []
    one = subscription(here, listener.url)
    catch_up(here, one)
    (look,) = ours.take()
    assert look.delay > 2
    assert happen(there, theirs) == []
    happen(here, ours)
    assert happen(here, ours, "CallStarted") == []
    run(here, look.message)
    (part,) = [message for message in ours.take() if message.message["kind"] == "range"]
    assert part.delay > 5
    for _ in range(2):
        run(here, part.message)
        drain(here, one.id)
    assert len(listener.received) == 2
    assert len({delivery.id for delivery in listener.received}) == 2


def test_a_subscriber_whose_commit_takes_long_misses_nothing(
    bridge: Bridge, start_bridge: Callable[..., Bridge], sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = start_bridge()
    theirs, make = outbox(other.storage), Subscriptions.make
    looks: list[object] = []

    def slow(self: Subscriptions, requested: Subscription, secret: str | None = None) -> tuple[Subscription, bool]:
        # Six seconds pass, and the first looks find nothing.
        (look,) = [message for message in sent.take() if message.message["kind"] == "range"]
        assert happen(other, theirs) == []
        for _ in range(2):
            run(bridge, look.message)
            (look,) = [message for message in sent.take() if message.message["kind"] == "range"]
        looks.append(look)
        return make(self, replace(requested, created=requested.created - timedelta(seconds=6)), secret)

    monkeypatch.setattr(Subscriptions, "make", slow)
    body = json.dumps({"endpoint": "http://127.0.0.1:9/"}).encode()
    subscribing.subscribe(bridge, "CallCompleted", body, "https://bridge.example")
    run(bridge, looks[0].message)  # type: ignore[attr-defined]
    (part,) = [message for message in sent.take() if message.message["kind"] == "range"]
    run(bridge, part.message)
    (one,) = subscriptions(bridge).all()
    assert len(places(bridge, one)) == 1


def test_a_subscription_whose_answer_got_lost_is_looked_for_all_the_same(bridge: Bridge, sent: Sent) -> None:
    body = json.dumps({"endpoint": "http://127.0.0.1:9/"}).encode()
    break_connections(bridge.storage, "POST", "$batch")
    subscribing.subscribe(bridge, "CallCompleted", body, "https://bridge.example")
    assert len(list(subscriptions(bridge).all())) == 1
    assert bridge.storage.queue("deliveries").get_queue_properties().approximate_message_count == 1


def test_looking_for_a_subscriber_that_never_came_grows_rarer_and_ends(bridge: Bridge, sent: Sent) -> None:
    one = subscription(bridge, "http://127.0.0.1:9/")
    subscriptions(bridge).end(one.id)
    catch_up(bridge, one)
    delays, messages = [], sent.take()
    while messages:
        (look,) = messages
        delays.append(look.delay)
        run(bridge, look.message)
        messages = sent.take()
    assert delays == [5, 10, 20, 40, 80, 160]


def test_a_look_of_the_release_before_ends_as_soon(bridge: Bridge, sent: Sent) -> None:
    message = {"kind": "range", "id": "sub-a-range", "subscription": "sub-a", "since": iso(now()), "looks": 60}
    run(bridge, message)
    (look,) = sent.take()
    assert (look.delay, look.message["looks"]) == (10, 5)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"secret": "whsec_" + "MfKQ" * 8}], ids=["the same", "with another secret"])
def test_a_request_that_is_repeated_leaves_no_message(more: dict[str, str], bridge: Bridge, sent: Sent) -> None:
    def ask(**body: str) -> None:
        asked = json.dumps({"endpoint": "http://127.0.0.1:9/", **body}).encode()
        subscribing.subscribe(bridge, "CallCompleted", asked, "https://bridge.example")

    ask()
    queue = bridge.storage.queue("deliveries")
    assert queue.get_queue_properties().approximate_message_count == 1
    for _ in range(10):
        ask(**more)
    assert queue.get_queue_properties().approximate_message_count == 1
    (first, *others) = sent.take()
    assert len(others) == 10
    run(bridge, first.message)
    (part,) = sent.take()
    assert part.message["subscription"] == first.message["subscription"]
    # Where it cannot be taken back, it looks for nobody a few times.
    break_connections(bridge.storage, "DELETE", "/messages", times=9, after=False)
    ask(**more)
    assert queue.get_queue_properties().approximate_message_count == 3


def move_clock(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Have whoever subscribes and whoever looks read a clock that is so far ahead."""
    for module in ("shared.subscriptions.subscription", "shared.deliveries.fanout", "shared.storage.messages"):
        monkeypatch.setattr(f"{module}.now", lambda: now() + by)


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [-10, 10, -1, 1])
def test_clocks_that_differ_lose_no_event_of_a_new_subscriber(
    minutes: int, start_bridge: Callable[..., Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = start_bridge(), start_bridge()
    here.storage.ready()
    ours, theirs = outbox(here.storage), outbox(there.storage)
    happen(there, theirs)
    # A second is what the queue's clock counts in.
    time.sleep(1.1)
    assert list(subscriptions(there).all()) == []
    with monkeypatch.context() as moved:
        move_clock(moved, timedelta(minutes=minutes))
        body = json.dumps({"endpoint": "http://127.0.0.1:9/"}).encode()
        subscribing.subscribe(here, "CallCompleted", body, "https://bridge.example")
    # The one does not know of it yet, the other does.
    monkeypatch.setattr(subscriptions(there), "_fresh_until", subscriptions(there)._clock() + 60)
    assert happen(there, theirs) == []
    subscriptions(here).forget()
    (look,) = [message for message in ours.take() if message.message["kind"] == "range"]
    happen(here, ours)
    (one,) = subscriptions(here).all()
    assert len(places(here, one)) == 1
    for clock in (minutes, -minutes):
        with monkeypatch.context() as moved:
            move_clock(moved, timedelta(minutes=clock))
            run(here, look.message)
            (part,) = [message for message in ours.take() if message.message["kind"] == "range"]
            run(here, part.message)
    # What came before it was asked for is not its own.
    assert len(places(here, one)) == 2


def test_a_replay_that_comes_twice_is_posted_once_more(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    for _ in range(3):
        happen(bridge, sent)
    drain(bridge, one.id)
    send_range(bridge, one.id, now() - timedelta(minutes=1), now(), again=True)
    (message,) = [message for message in sent.take() if message.message["kind"] == "range"]
    for _ in range(2):
        run(bridge, message.message)
        drain(bridge, one.id)
    assert len(listener.received) == 6
    assert len({delivery.id for delivery in listener.received}) == 3


def test_a_replay_of_what_waits_anyway_posts_it_once(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    for _ in range(3):
        happen(bridge, sent)
    send_range(bridge, one.id, now() - timedelta(minutes=1), now(), again=True)
    (message,) = [message for message in sent.take() if message.message["kind"] == "range"]
    run(bridge, message.message)
    drain(bridge, one.id)
    assert len(listener.received) == 3


def test_a_long_range_is_put_there_in_parts(
    bridge: Bridge, sent: Sent, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "_CHUNK", 2)
    for _ in range(5):
        happen(bridge, sent)
    one = subscription(bridge, listener.url)
    send_range(bridge, one.id, now() - timedelta(minutes=1), now(), again=True)
    parts, messages = 0, [message for message in sent.take() if message.message["kind"] == "range"]
    while messages:
        run(bridge, messages[0].message)
        messages = [message for message in sent.take() if message.message["kind"] == "range"]
        parts += 1
    assert parts == 3
    drain(bridge, one.id)
    assert len(listener.received) == 5
