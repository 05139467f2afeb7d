"""Deliveries: made once, retried, given up in the end, without delaying other subscribers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import pytest

from dev.counting import counted
from dev.listener import Listener
from dev.server import Request
from dev.signatures import verify
from shared import people
from shared.api import subscribe as subscribing
from shared.bridge import Bridge
from shared.deliveries import drain as module
from shared.deliveries import outbox as outboxes
from shared.deliveries.drain import BATCH, DISABLED_AFTER, SCHEDULE, TRIED_FOR, drain, wake_waiting
from shared.deliveries.outbox import EPOCH, TABLE, Outbox, end, expire
from shared.errors import StorageUnavailable, Unprocessable
from shared.pipeline.queues import CONSUMERS
from shared.pipeline.replay import replay_event
from shared.storage.rows import Allowance, Period
from shared.subscriptions import subscriptions
from shared.times import now
from tests.breaking import break_connections
from tests.dying import Killed, die_at
from tests.outbox import outbox
from tests.shared.deliveries.subscriber import (
    FIXTURES,
    drained,
    fail_since,
    fill,
    happen,
    later,
    let_time_pass,
    markers,
    places,
    set_state,
    state,
    subscription,
)
from tests.stored import dead_letters

if TYPE_CHECKING:
    from tests.outbox import Outbox as Sent


def test_an_event_is_posted_once_to_each_who_wants_it(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    base = listener.url
    for path, wanted in (("/a", {}), ("/b", {"direction": "in"}), ("/c", {"direction": "out"}), ("/d", {})):
        subscription(bridge, base + path, wanted=wanted, event="CallStarted" if path == "/d" else "CallCompleted")
    messages = happen(bridge, sent, direction="in")
    assert [message.delay for message in messages] == [0, 0]
    for message in messages * 2:
        drain(bridge, message.message["subscription"])
        assert sent.take() == []
    assert sorted(one.path for one in listener.received) == ["/hook/a", "/hook/b"]


@pytest.mark.parametrize("shape", ["native", "cloudevents"])
def test_a_body_has_the_pbx_s_own_form_or_that_of_cloud_events(
    shape: str, bridge: Bridge, sent: Sent, listener: Listener
) -> None:
    one = subscription(bridge, listener.url, shape=shape)
    happen(bridge, sent, remark="ā")
    drain(bridge, one.id)
    (delivery,) = listener.received
    body, envelope = delivery.json(), json.loads((FIXTURES / "CallCompleted.json").read_text())
    data = envelope["data"] | {"callID": body["data"]["callID"], "remark": "ā"}
    if shape == "native":
        assert body == envelope | {"data": data}
    else:
        assert body.pop("time")
        assert body == {
            "specversion": "1.0",
            "id": delivery.id,
            "source": "/api/v2",
            "type": "lv.zvanuparvaldnieks.CallCompleted",
            "subject": f"callID/{data['callID']}",
            "datacontenttype": "application/json",
            "data": data,
        }
        assert delivery.headers["content-type"] == "application/cloudevents+json"
    assert not any(data["caller"].lstrip("+") in value for value in delivery.headers.values())
    verify(delivery.headers, delivery.body, [one.secrets[0][0]], time.time())
    (marker,) = markers(bridge, one)
    assert (marker["RowKey"], marker["result"], marker["attempts"]) == (f"sent-{delivery.id}", "200", 1)


def test_an_event_that_is_refused_while_others_succeed_has_nine_tries_and_holds_nobody_up(
    bridge: Bridge, sent: Sent, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    one = subscription(bridge, listener.url + "?sig=secret")
    listener.answer = lambda received: (500 if received.json()["data"]["direction"] == "out" else 200, {})
    happen(bridge, sent, direction="out")
    for tries, delay in enumerate(SCHEDULE, 1):
        (message,) = later(bridge, sent, one)
        (place,) = places(bridge, one)
        assert place["tries"] == tries
        assert delay * 0.9 - 1 <= message.delay <= delay * 1.1 + 1
        before = len(listener.received)
        happen(bridge, sent)
        drained(bridge, sent, one)
        assert [other.json()["data"]["direction"] for other in listener.received[before:]] == ["in"]
    assert later(bridge, sent, one) == []
    refused = [other for other in listener.received if other.json()["data"]["direction"] == "out"]
    assert (len(refused), len({other.id for other in refused})) == (len(SCHEDULE) + 1, 1)
    (dead,) = dead_letters(bridge.storage)
    assert (dead["kind"], dead["attempts"], dead["reason"]) == ("delivery", 9, "the last attempt: 500")
    assert f"signal delivery_failed subscription={one.id} event={refused[0].id} attempts=9" in caplog.messages
    assert "sig=secret" not in caplog.text + str(dead)
    caller = people.number(refused[0].json()["data"]["caller"], "LV")
    (pointer,) = people.find(bridge.storage, caller, ("dead",))
    assert pointer.id == f"delivery-{dead['RowKey']}"
    assert places(bridge, one) == []


def test_events_that_a_subscriber_alone_refuses_keep_no_others_waiting(
    bridge: Bridge, sent: Sent, listener: Listener
) -> None:
    one = subscription(bridge, listener.url)
    listener.answer = lambda received: (400 if received.json()["data"]["direction"] == "out" else 200, {})
    for number in range(2 * BATCH + 4):
        happen(bridge, sent, direction="out" if number < 2 * BATCH else "in")
    for batches in (1, 2):
        (message,) = drained(bridge, sent, one)
        assert 8 <= message.delay <= 22
        assert len(listener.received) == BATCH * batches
        set_state(bridge, one, resume=EPOCH)
    assert drained(bridge, sent, one) == []
    assert len(listener.received) == 2 * BATCH + 4
    assert len(places(bridge, one)) == 2 * BATCH
    assert state(bridge, one).rounds == 0


def test_while_nothing_succeeds_an_event_is_never_given_up(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    listener.answer = 500
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    for _ in range(len(SCHEDULE) + 3):
        (message,) = later(bridge, sent, one)
        assert message.delay <= 3600 * 1.1 + 1
    assert dead_letters(bridge.storage) == []
    listener.answer = 200
    assert later(bridge, sent, one) == []
    assert places(bridge, one) == []


def ids_as_received(bridge: Bridge, one: Any) -> list[str]:
    """The events that were delivered, in the order in which they came in."""
    received = {row["RowKey"]: row["received"] for row in bridge.storage.table("events").list_entities()}
    return sorted((row["RowKey"].removeprefix("sent-") for row in markers(bridge, one)), key=lambda id: received[id])


def test_gone_ends_the_subscription_and_drops_its_outbox(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    listener.answer = 410
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    messages = drained(bridge, sent, one)
    assert subscriptions(bridge).get(one.id) is None
    assert state_events(sent) == [("SubscriptionEnded", one.id)]
    (ended,) = subscriptions(bridge).ended()
    assert (ended["id"], ended["host"], ended["answer"]) == (one.id, listener.url.split("/")[2], "410")
    for message in messages:
        drain(bridge, message.message["subscription"])
    assert happen(bridge, sent) == []
    assert len(listener.received) == 1
    assert list(bridge.storage.table(TABLE).list_entities()) == []
    assert dead_letters(bridge.storage) == []


def test_ending_drops_thousands_in_parts(bridge: Bridge, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    one = subscription(bridge, "http://127.0.0.1:9/")
    Outbox(bridge.storage, one.id).put([(now(), f"event{number}") for number in range(120)])
    monkeypatch.setattr(module, "RUN_SECONDS", 0)
    end(bridge, one.id)
    (message,) = sent.take()
    rounds = 0
    while message:
        drain(bridge, message.message["subscription"])
        rounds += 1
        message = next(iter(sent.take()), None)
    assert rounds >= 2
    assert list(bridge.storage.table(TABLE).list_entities()) == []


def test_an_end_whose_message_cannot_be_sent_changes_nothing(
    bridge: Bridge, start_bridge: Callable[..., Bridge], sent: Sent, listener: Listener
) -> None:
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    drained(bridge, sent, one)
    doomed = start_bridge()
    break_connections(doomed.storage, "POST", "/messages", times=99, after=False)
    with pytest.raises(StorageUnavailable):
        end(doomed, one.id)
    subscriptions(bridge).forget()
    assert subscriptions(bridge).get(one.id)
    # Anybody may ask for any, however often: only an end sends a message.
    for id in (one.id, one.id, "sub-nobody"):
        end(bridge, id)
    (message,) = sent.take()
    drain(bridge, message.message["subscription"])
    assert list(bridge.storage.table(TABLE).list_entities()) == []


def test_a_state_grows_old_once_nobody_drains_any_more(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    one, other = subscription(bridge, listener.url), subscription(bridge, listener.url, event="CallStarted")
    happen(bridge, sent)
    happen(bridge, sent, "CallStarted")
    for quiet in (one, other):
        drained(bridge, sent, quiet)
    set_state(bridge, one, at=now() - timedelta(days=400))
    period = Period(None, now() - timedelta(days=365))
    assert expire(bridge.storage, period, Allowance(until=time.monotonic() + 60)) == 1
    assert state(bridge, one).etag is None
    assert state(bridge, other).etag


@pytest.mark.slow
def test_a_dead_subscriber_waits_as_a_whole_and_catches_up_in_order(
    bridge: Bridge, sent: Sent, listener: Listener
) -> None:
    listener.answer = 500
    one = subscription(bridge, listener.url)
    for _ in range(20):
        happen(bridge, sent)
    (message,) = drained(bridge, sent, one)
    assert 8 <= message.delay <= 12
    assert len(listener.received) == BATCH
    for rounds in range(2, 12):
        assert drained(bridge, sent, one) == []
        (message,) = later(bridge, sent, one)
        wait = min(10 * 2 ** (rounds - 1), 3600)
        assert wait * 0.9 - 1 <= message.delay <= wait * 1.1 + 1
        assert len(listener.received) <= BATCH * rounds
    assert len(places(bridge, one)) == 20
    listener.answer = 200
    before = len(listener.received)
    assert later(bridge, sent, one) == []
    assert places(bridge, one) == []
    got = [other.id for other in listener.received[before:]]
    assert len(got) == len(set(got)) == 20
    wanted = ids_as_received(bridge, one)
    # Those of one batch may come in any order.
    assert all(abs(got.index(id) - wanted.index(id)) <= BATCH for id in wanted)
    assert dead_letters(bridge.storage) == []


@pytest.mark.parametrize("events", [4, 100])
def test_a_dead_subscriber_costs_twelve_executions_a_minute_at_most(
    events: int, bridge: Bridge, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = begin = now()
    for each in (module, outboxes):
        monkeypatch.setattr(each, "now", lambda: clock)
    one = subscription(bridge, "http://127.0.0.1:9/")
    fill(bridge, one, events)
    due, runs = [begin] * min(events, 5), []
    # It is looked at again, however long it is dead: the queue is never empty.
    while (clock := heappop(due)) < begin + timedelta(minutes=30):
        runs.append(clock)
        drain(bridge, one.id)
        for message in sent.take():
            heappush(due, clock + timedelta(seconds=message.delay))
    assert max(sum(run <= other < run + timedelta(minutes=1) for other in runs) for run in runs) <= 12
    assert len(places(bridge, one)) == events


def test_a_message_that_comes_twice_is_posted_once(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    (message,) = happen(bridge, sent)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: drain(bridge, message.message["subscription"]), range(8)))
    assert len(listener.received) == 1
    event = listener.received[0].id
    Outbox(bridge.storage, one.id).put([(now(), event)])
    drain(bridge, one.id)
    assert len(listener.received) == 1
    replay_event(bridge, one.id, event)
    drain(bridge, one.id)
    assert [other.id for other in listener.received] == [event, event]


def test_a_run_that_lost_its_lease_changes_nothing(start_bridge: Callable[..., Bridge], listener: Listener) -> None:
    here, there = start_bridge(), start_bridge()
    here.storage.ready()
    ours = outbox(here.storage)
    one = subscription(here, listener.url)

    def answer(received: Request) -> tuple[int, dict[str, str]]:
        if len(listener.received) == 1:
            let_time_pass(there, one)
            drain(there, one.id)
            return 500, {}
        return 200, {}

    listener.answer = answer
    happen(here, ours)
    drain(here, one.id)
    assert len(listener.received) == 2
    assert places(here, one) == []
    assert [row["result"] for row in markers(here, one)] == ["200"]
    assert state(here, one).result == "200"


@pytest.mark.slow
# A killed process closes no connection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
@pytest.mark.parametrize("status", [200, 500], ids=["delivered", "failed"])
def test_a_drainer_killed_at_any_step_is_followed_by_the_next(
    status: int, after: bool, start_bridge: Callable[..., Bridge], listener: Listener
) -> None:
    calm = start_bridge()
    calm.storage.ready()
    box = outbox(calm.storage)
    one = subscription(calm, listener.url)
    step = 0
    while True:
        step += 1
        listener.answer = status
        happen(calm, box)
        listener.received.clear()
        doomed = start_bridge()
        adapter = die_at(doomed.storage, step, after=after)
        try:
            drain(doomed, one.id)
        except Killed:
            listener.answer = 200
            later(calm, box, one)
        else:
            break
        finally:
            listener.answer = 200
        assert places(calm, one) == []
        # Between a post and the note of it there is no way to know: the subscriber recognises the id.
        assert len({other.id for other in listener.received}) == 1
        assert len(listener.received) <= 2
        assert {row["result"] for row in markers(calm, one)} == {"200"}
        set_state(calm, one, streak=0)
    assert adapter.count < step


def test_a_run_ends_after_a_while_and_the_next_goes_on(
    bridge: Bridge, sent: Sent, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = subscription(bridge, listener.url)
    for _ in range(2 * BATCH):
        happen(bridge, sent)
    monkeypatch.setattr(module, "RUN_SECONDS", 0)
    (message,) = drained(bridge, sent, one)
    assert message.delay == 1
    assert len(listener.received) == len(places(bridge, one)) == BATCH
    monkeypatch.undo()
    drain(bridge, message.message["subscription"])
    assert len({other.id for other in listener.received}) == len(listener.received) == 2 * BATCH


def test_a_wake_before_its_time_costs_two_reads(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    set_state(bridge, one, resume=now() + timedelta(hours=1))
    subscriptions(bridge).get(one.id)
    spent = counted(bridge.storage)
    drain(bridge, one.id)
    assert spent.count == 2
    assert listener.received == []


def state_events(sent: Sent) -> list[tuple[str, str]]:
    messages = [one.message for one in sent.take("events")]
    return [(message["event"], message["body"]["data"]["subscriptionID"]) for message in messages]


def test_five_days_of_failures_disable_and_a_success_brings_back(
    bridge: Bridge, sent: Sent, listener: Listener
) -> None:
    listener.answer = 500
    one = subscription(bridge, listener.url)
    fail_since(bridge, one, DISABLED_AFTER - timedelta(minutes=1))
    happen(bridge, sent)
    later(bridge, sent, one)
    assert state_events(sent) == []
    fail_since(bridge, one, DISABLED_AFTER + timedelta(minutes=1))
    happen(bridge, sent)
    later(bridge, sent, one)
    assert state_events(sent) == [("SubscriptionDisabled", one.id)]
    assert happen(bridge, sent) == []
    assert len(places(bridge, one)) == 2
    for _ in range(12):
        (message,) = later(bridge, sent, one)
    assert 3200 < message.delay < 4000
    assert state_events(sent) == []
    fail_since(bridge, one, TRIED_FOR + timedelta(minutes=1))
    assert later(bridge, sent, one) == []
    listener.answer = 200
    assert later(bridge, sent, one) == []
    assert state_events(sent) == [("SubscriptionRecovered", one.id)]
    assert places(bridge, one) == []
    happen(bridge, sent)
    assert len(places(bridge, one)) == 1


def test_subscribing_again_tries_a_disabled_one_at_once_and_begins_the_five_days_again(
    bridge: Bridge, sent: Sent, listener: Listener
) -> None:
    listener.answer = 500
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    fail_since(bridge, one, DISABLED_AFTER + timedelta(minutes=1))
    later(bridge, sent, one)
    assert state_events(sent) == [("SubscriptionDisabled", one.id)]
    body = json.dumps({"endpoint": listener.url}).encode()
    subscribing.subscribe(bridge, one.event, body, "https://bridge.example")
    assert {message.message["subscription"] for message in sent.take()} >= {one.id}
    assert state_events(sent) == [("SubscriptionRecovered", one.id)]
    happen(bridge, sent)
    drained(bridge, sent, one)
    assert state(bridge, one).failing > now() - timedelta(minutes=1)
    listener.answer = 200
    later(bridge, sent, one)
    assert (state_events(sent), places(bridge, one)) == ([], [])


def test_places_without_a_message_are_found(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    one, idle = subscription(bridge, listener.url), subscription(bridge, listener.url, event="CallStarted")
    assert happen(bridge, sent)
    wake_waiting(bridge)
    (message,) = sent.take()
    assert message.message["subscription"] == one.id != idle.id
    drain(bridge, message.message["subscription"])
    wake_waiting(bridge)
    assert sent.take() == []
    happen(bridge, sent)
    set_state(bridge, one, resume=now() + timedelta(hours=1))
    wake_waiting(bridge)
    assert sent.take() == []


def test_a_missing_event_is_a_dead_letter(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    Outbox(bridge.storage, one.id).put([(now(), "nothing")])
    assert drained(bridge, sent, one) == []
    assert [dead["reason"] for dead in dead_letters(bridge.storage)] == ["the event is gone"]
    assert places(bridge, one) == []
    assert (state(bridge, one).resume, state(bridge, one).result) == (EPOCH, "")


def test_an_event_that_is_erased_between_two_tries_is_not_posted_again(
    bridge: Bridge, sent: Sent, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.deliveries.post.MEMORY_SECONDS", 1e-6)
    listener.answer = 500
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    drain(bridge, one.id)
    events = bridge.storage.table("events")
    for row in list(events.list_entities()):
        events.delete_entity(row)
    listener.answer = 200
    later(bridge, sent, one)
    assert len(listener.received) == 1
    assert [dead["reason"] for dead in dead_letters(bridge.storage)] == ["the event is gone"]


@pytest.mark.slow
def test_deliveries_cost_no_more_storage_than_they_must(bridge: Bridge, sent: Sent, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    drain(bridge, one.id)
    for _ in range(50):
        happen(bridge, sent)
    spent = counted(bridge.storage)
    drain(bridge, one.id)
    assert len(listener.received) == 51
    # The event, and a part of a transaction; a look at the head, the lease and the end for all.
    assert spent.count <= 50 * 2 + 4


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_a_connection_that_breaks_repeats_no_post(
    method: str, after: bool, bridge: Bridge, sent: Sent, listener: Listener
) -> None:
    one = subscription(bridge, listener.url)
    for _ in range(3):
        happen(bridge, sent)
    break_connections(bridge.storage, method, TABLE, after=after)
    drain(bridge, one.id)
    assert len(listener.received) == 3
    assert places(bridge, one) == []
    assert not state(bridge, one).holder


@pytest.mark.parametrize("message", [{}, {"kind": "wake"}, {"kind": "wake", "subscription": 5}, {"kind": "other"}])
def test_a_message_that_is_no_delivery_can_never_succeed(bridge: Bridge, message: dict[str, Any]) -> None:
    (consumer,) = (one for one in CONSUMERS if one.function == "Deliver")
    with pytest.raises(Unprocessable):
        consumer.run(bridge, message)


def test_work_for_an_unknown_subscription_is_dropped(bridge: Bridge, sent: Sent) -> None:
    drain(bridge, "nobody")
    assert sent.take() == []
    with pytest.raises(Unprocessable):
        replay_event(bridge, "nobody", "event")
