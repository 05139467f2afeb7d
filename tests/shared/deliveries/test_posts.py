"""The posts of one run: so many at once, none after the end, and answers together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from dev.listener import Answer, Listener, Received
from shared.deliveries import posts as module
from shared.deliveries.entries import Place
from shared.deliveries.outbox import Fenced, Outbox
from shared.deliveries.posts import LINED_UP, QUICK, SLOW, Posts
from shared.times import now
from tests.backlog import fill
from tests.shared.deliveries.subscriber import subscription

if TYPE_CHECKING:
    from shared.bridge import Bridge


def _outcomes(posts: Posts) -> list[str | None]:
    outcomes = []
    while posts:
        outcomes += [outcome.result if (outcome := future.result()) else None for _, future in posts.answers()]
    return outcomes


class _Counting:
    """Answers after a moment, and notes how many others were being answered at the beginning of each."""

    def __init__(self) -> None:
        self._lock, self._under_way = threading.Lock(), 0
        self.at_once: list[int] = []

    def __call__(self, _: Received) -> Answer:
        with self._lock:
            self._under_way += 1
            self.at_once.append(self._under_way)
        threading.Event().wait(0.05)
        with self._lock:
            self._under_way -= 1
        return 200, {}


def _post_all(bridge: Bridge, answer: _Counting) -> None:
    with Listener(answer) as listener:
        one = subscription(bridge, listener.url)
        bridge.storage.ready()
        fill(bridge.storage, one.id, LINED_UP)
        with Posts(bridge, one, lambda: False) as posts:
            for place in Outbox(bridge.storage, one.id).read(now()).places:
                posts.begin(place)
            assert _outcomes(posts) == ["200"] * LINED_UP


def test_no_more_are_posted_at_once_than_a_subscriber_is_sent(bridge: Bridge) -> None:
    answer = _Counting()
    _post_all(bridge, answer)
    assert 2 <= max(answer.at_once) <= QUICK


def test_of_what_is_lined_up_a_subscriber_that_turns_slow_is_sent_two_at_once(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.01)
    answer = _Counting()
    _post_all(bridge, answer)
    assert max(answer.at_once) <= QUICK
    assert max(answer.at_once[QUICK + SLOW :]) <= SLOW


def test_nothing_is_posted_once_it_has_stopped_and_a_lost_event_is_said(bridge: Bridge, listener: Listener) -> None:
    bridge.storage.ready()
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


def test_nothing_more_is_posted_once_nobody_writes_it_down(bridge: Bridge) -> None:
    answer = _Counting()
    with Listener(answer) as listener:
        one = subscription(bridge, listener.url)
        bridge.storage.ready()
        fill(bridge.storage, one.id, LINED_UP)
        with pytest.raises(Fenced), Posts(bridge, one, lambda: False) as posts:
            for place in Outbox(bridge.storage, one.id).read(now()).places:
                posts.begin(place)
            list(posts.answers())
            raise Fenced
    assert len(answer.at_once) < LINED_UP


def test_a_failure_is_answered_at_once_beside_others_that_hang(bridge: Bridge) -> None:
    hang = threading.Event()

    def answer(received: Received) -> Answer:
        if received.id != "event000000":
            hang.wait(10)
        return 500, {}

    with Listener(answer) as listener:
        one = subscription(bridge, listener.url)
        bridge.storage.ready()
        fill(bridge.storage, one.id, 2)
        with Posts(bridge, one, lambda: False) as posts:
            for place in Outbox(bridge.storage, one.id).read(now()).places:
                posts.begin(place)
            first = list(posts.answers())
            hang.set()
    assert [place.event for place, _ in first] == ["event000000"]
