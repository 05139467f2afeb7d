"""The posts of one run: so many at once, none after the end, and answers together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dev.backlog import fill
from dev.listener import Answer, Listener, Received
from shared.deliveries.outbox import Outbox
from shared.deliveries.places import Place
from shared.deliveries.posts import LINED_UP, QUICK, Posts
from shared.times import now
from tests.shared.deliveries.subscriber import subscription

if TYPE_CHECKING:
    from shared.bridge import Bridge


def _outcomes(posts: Posts) -> list[str | None]:
    outcomes = []
    while posts:
        outcomes += [outcome.result if (outcome := future.result()) else None for _, future in posts.answers()]
    return outcomes


def test_no_more_are_posted_at_once_than_a_subscriber_is_sent(bridge: Bridge) -> None:
    lock, at_once, most = threading.Lock(), 0, 0

    def answer(_: Received) -> Answer:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.05)
        with lock:
            at_once -= 1
        return 200, {}

    with Listener(answer) as listener:
        one = subscription(bridge, listener.url)
        bridge.storage.create_all()
        fill(bridge.storage, one.id, LINED_UP)
        with Posts(bridge, one, lambda: False) as posts:
            for place in Outbox(bridge.storage, one.id).read(now()).places:
                posts.begin(place)
            assert _outcomes(posts) == ["200"] * LINED_UP
    assert 2 <= most <= QUICK


def test_nothing_is_posted_once_it_has_stopped_and_a_lost_event_is_said(bridge: Bridge, listener: Listener) -> None:
    bridge.storage.create_all()
    one = subscription(bridge, listener.url)
    fill(bridge.storage, one.id, 3)
    places = Outbox(bridge.storage, one.id).read(now()).places
    with Posts(bridge, one, lambda: True) as posts:
        for place in places:
            posts.begin(place)
        assert _outcomes(posts) == [None] * len(places)
    assert listener.received == []
    with Posts(bridge, one, lambda: False) as posts:
        posts.begin(Place.of(now(), "gone", ""))
        assert _outcomes(posts) == ["the event is gone"]


def test_a_failure_is_answered_at_once_beside_others_that_hang(bridge: Bridge) -> None:
    hang = threading.Event()

    def answer(received: Received) -> Answer:
        if received.id != "event000000":
            hang.wait(10)
        return 500, {}

    with Listener(answer) as listener:
        one = subscription(bridge, listener.url)
        bridge.storage.create_all()
        fill(bridge.storage, one.id, 2)
        with Posts(bridge, one, lambda: False) as posts:
            for place in Outbox(bridge.storage, one.id).read(now()).places:
                posts.begin(place)
            first = list(posts.answers())
            hang.set()
    assert [place.event for place, _ in first] == ["event000000"]
