"""Outboxes: an event has one place for each matching subscription, and concurrent writes are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from requests.adapters import HTTPAdapter

from shared.api.subscribe import subscribe
from shared.bridge import Bridge
from shared.deliveries.outbox import Outbox, State, fan_out
from shared.errors import Conflict
from shared.events.event import event_of, submit
from shared.pipeline.process import process
from shared.pipeline.replay import run_range
from shared.subscriptions import subscriptions
from shared.times import now
from tests.breaking import break_connections
from tests.outbox import outbox
from tests.shared.deliveries.subscriber import happen, markers, places, subscription

if TYPE_CHECKING:
    import requests

    from tests.outbox import Outbox as Sent

ID = "sub-a"
NOWHERE = "http://127.0.0.1:9/"


class Racing(HTTPAdapter):
    """Has another process write first, so many times."""

    def __init__(self, work: Callable[[], object], times: int) -> None:
        super().__init__()
        self.work, self.left = work, times

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        if request.method == "PUT" and self.left > 0:
            self.left -= 1
            self.work()
        return super().send(request, *args, **options)


def failing(bridge: Bridge) -> Outbox:
    """An outbox that is left alone for an hour."""
    outbox = Outbox(bridge.storage, ID)
    row = State(rounds=9, resume=now() + timedelta(hours=1)).row(ID)
    bridge.storage.table("deliveries").create_entity(row)
    return outbox


@pytest.mark.slow
@pytest.mark.parametrize(("times", "rounds"), [(5, 0), (10_000, 9)], ids=["a few", "for ever"])
def test_a_change_goes_on_while_others_write_or_is_refused(
    times: int, rounds: int, bridge: Bridge, start_bridge: Callable[..., Bridge]
) -> None:
    outbox, other = failing(bridge), Outbox(start_bridge().storage, ID)
    bridge.storage._session.mount("http://", Racing(lambda: other.take(other.state()), times))
    try:
        outbox.try_now()
    except Conflict:
        assert times > 100
    assert outbox.state().rounds == rounds


def test_an_outbox_without_a_state_has_nothing_to_change(bridge: Bridge) -> None:
    outbox = Outbox(bridge.storage, ID)
    outbox.try_now()
    assert outbox.state().etag is None


def test_a_state_that_was_changed_meanwhile_is_not_overwritten(bridge: Bridge) -> None:
    outbox = failing(bridge)
    outbox.put([(now(), "a")])
    state, places = outbox.due(now() + timedelta(hours=2), 8)
    assert outbox.take(state)
    assert outbox.try_now() == 1
    finished = [(place, "200") for place in places]
    assert not outbox.complete(state, finished)
    newer = outbox.state()
    assert (newer.rounds, newer.holder) == (0, state.holder)
    assert outbox.complete(newer, finished)
    assert outbox.due(now(), 8)[1] == []


@pytest.mark.parametrize("after", [True, False], ids=["answer lost", "request lost"])
def test_a_connection_that_breaks_leaves_one_place_and_nothing_half_written(bridge: Bridge, after: bool) -> None:
    outbox, moment = failing(bridge), now()
    break_connections(bridge.storage, "POST", "$batch", times=2, after=after)
    outbox.put([(moment, "a"), (moment, "b")])
    assert [place.event for place in outbox.due(moment + timedelta(hours=2), 8)[1]] == ["a", "b"]


def test_an_event_that_comes_twice_has_one_place_and_wakes_twice(
    start_bridge: Callable[..., Bridge], bridge: Bridge, sent: Sent
) -> None:
    one = subscription(bridge, NOWHERE)
    submit(bridge, "CallCompleted", {"callID": 5}, origin="webhook")
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
    submit(bridge, "CallCompleted", {"callID": 5}, origin="webhook")
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
    # The other instance does not know the subscription yet.
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
