"""Deliveries: once each, tried again on the schedule, given up in the end, and never at others' cost."""

from __future__ import annotations

import json
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dev.listener import Listener, Received
from shared.api import subscribe as subscribing
from shared.deliveries import drain as deliveries
from shared.deliveries import fanout
from shared.errors import Unprocessable
from shared.events.receive import submit
from shared.events.table import event_named
from shared.json_bodies import encode
from shared.pipeline.process import process
from shared.subscriptions import signatures
from shared.subscriptions.log import DISABLED_AFTER, delivery_log
from shared.subscriptions.store import subscriptions
from shared.subscriptions.subscription import Subscription, new_id
from shared.times import iso, now
from tests.dying import Killed, die_at
from tests.outbox import Outbox, Sent, outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.bridge import Bridge

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "events"


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"ALLOW_LOOPBACK_CALLBACKS": "true"}


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.fixture
def sent(bridge: Bridge) -> Outbox:
    bridge.storage.create_all()
    return outbox(bridge.storage)


def subscription(bridge: Bridge, endpoint: str, **changes: Any) -> Subscription:
    wish = Subscription(
        id=new_id(),
        event="CallCompleted",
        endpoint=endpoint,
        wanted={},
        shape="native",
        created=now(),
        secrets=((signatures.new_secret(), None),),
    )
    return subscriptions(bridge.storage).make(replace(wish, **changes))[0]


def happen(bridge: Bridge, sent: Outbox, event: str = "CallCompleted", **changes: Any) -> list[Sent]:
    """Process an event; the messages that it puts on the queue."""
    data = json.loads((FIXTURES / f"{event}.json").read_text())["data"]
    submit(bridge.storage, bridge.settings, event, data | {"callID": time.time_ns()} | changes, origin="webhook")
    for message in sent.take("events"):
        process(bridge, message.body, 1)
    return sent.take()


def run(bridge: Bridge, sent: Outbox, message: Sent, attempt: int = 1) -> list[Sent]:
    """Run a message; what is put on the queue by that."""
    deliveries.run(bridge, message.body, attempt)
    return sent.take()


def letters(bridge: Bridge) -> list[Any]:
    return list(bridge.storage.table("deadletters").list_entities())


def test_an_event_is_posted_once_to_each_who_wants_it(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    base = listener.url
    for path, wanted in (("/a", {}), ("/b", {"direction": "in"}), ("/c", {"direction": "out"}), ("/d", {})):
        subscription(bridge, base + path, wanted=wanted, event="CallStarted" if path == "/d" else "CallCompleted")
    messages = happen(bridge, sent, direction="in")
    assert [message.delay for message in messages] == [0, 0]
    for message in messages:
        assert run(bridge, sent, message) == []
    assert sorted(one.path for one in listener.received) == ["/hook/a", "/hook/b"]


def test_native_bodies_are_the_pbx_s_own(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    (message,) = happen(bridge, sent, remark="ā")
    run(bridge, sent, message)
    (delivery,) = listener.received
    told = json.loads((FIXTURES / "CallCompleted.json").read_text())
    assert delivery.json() == told | {
        "data": told["data"] | {"callID": delivery.json()["data"]["callID"], "remark": "ā"}
    }
    signatures.verify(delivery.headers, delivery.body, one.signing(time.time()), time.time())
    assert delivery.id == message.message["event"]


def test_cloud_events_are_structured_and_name_no_number(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    one = subscription(bridge, listener.url, shape="cloudevents")
    (message,) = happen(bridge, sent)
    run(bridge, sent, message)
    (delivery,) = listener.received
    assert delivery.headers["content-type"] == "application/cloudevents+json"
    told = delivery.json()
    assert told.keys() == {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}
    assert (told["specversion"], told["id"], told["type"]) == ("1.0", delivery.id, "pbx.CallCompleted")
    assert told["subject"] == f"callID/{told['data']['callID']}"
    signatures.verify(delivery.headers, delivery.body, one.signing(time.time()), time.time())
    number = told["data"]["caller"].lstrip("+")
    assert not any(number in value for value in delivery.headers.values())


def test_a_failure_is_tried_again_on_the_schedule_and_then_a_dead_letter(
    bridge: Bridge, sent: Outbox, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    listener.answer = 500
    one = subscription(bridge, listener.url + "?sig=secret")
    (message,) = happen(bridge, sent)
    for tries, delay in enumerate(deliveries.SCHEDULE[1:], 1):
        deliveries.gates.forget()
        (message,) = run(bridge, sent, message)
        assert message.message["attempt"] == tries
        assert delay * 0.9 - 1 <= message.delay <= delay * 1.1 + 1
    deliveries.gates.forget()
    assert run(bridge, sent, message) == []
    assert len(listener.received) == len(deliveries.SCHEDULE)
    assert len({one.id for one in listener.received}) == 1
    (letter,) = letters(bridge)
    assert (letter["kind"], letter["attempts"]) == ("delivery", 9)
    assert letter["reason"] == "the last attempt: 500"
    signal = f"signal delivery_failed subscription={one.id} event={message.message['event']} attempts=9"
    assert signal in caplog.messages
    assert "sig=secret" not in caplog.text
    assert "sig=secret" not in str(letter)


@pytest.mark.parametrize(
    ("status", "header", "delays"),
    [
        (429, "120", [120]),
        (503, "40", [40]),
        (503, "1", [4, 5, 6]),
        (429, "999999999", [86_400]),
        (429, "soon", [4, 5, 6]),
        (429, "-5", [4, 5, 6]),
        (500, "120", [120]),
        (502, "120", [120]),
        (404, "120", [120]),
        (302, "120", [120]),
        (500, "soon", [4, 5, 6]),
    ],
    ids=str,
)
def test_retry_after_is_obeyed_within_limits(  # noqa: PLR0917 - fixtures
    status: int, header: str, delays: list[int], bridge: Bridge, sent: Outbox, listener: Listener
) -> None:
    listener.answer = lambda received: (status, {"Retry-After": header, "Location": "/elsewhere"})
    subscription(bridge, listener.url)
    (message,) = happen(bridge, sent)
    (again,) = run(bridge, sent, message)
    assert again.delay in delays
    assert [one.path for one in listener.received] == ["/hook"]


def test_gone_ends_the_subscription(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    listener.answer = 410
    one = subscription(bridge, listener.url)
    first, second = happen(bridge, sent), happen(bridge, sent)
    assert run(bridge, sent, first[0]) == []
    assert subscriptions(bridge.storage).get(one.id) is None
    assert run(bridge, sent, second[0]) == []
    assert happen(bridge, sent) == []
    assert len(listener.received) == 1
    assert letters(bridge) == []


def test_a_message_that_comes_twice_is_posted_once(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    (message,) = happen(bridge, sent)
    run(bridge, sent, message)
    run(bridge, sent, message, attempt=2)
    fanout.send_delivery(bridge, one.id, message.message["event"])
    (fingerprint,) = sent.take()
    run(bridge, sent, fingerprint)
    assert len(listener.received) == 1


def test_while_one_message_is_tried_another_for_the_same_event_leaves_it_alone(
    bridge: Bridge, sent: Outbox, listener: Listener
) -> None:
    listener.answer = 500
    one = subscription(bridge, listener.url)
    (message,) = happen(bridge, sent)
    (again,) = run(bridge, sent, message)
    fanout.send_delivery(bridge, one.id, message.message["event"])
    (fingerprint,) = sent.take()
    listener.answer = 200
    assert run(bridge, sent, fingerprint) == []
    assert len(listener.received) == 1
    assert run(bridge, sent, again) == []
    assert len(listener.received) == 2


# Who is killed closes nothing.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
@pytest.mark.parametrize("status", [200, 500], ids=["delivered", "failed"])
def test_a_delivery_killed_at_any_step_is_finished_by_the_next(
    status: int, after: bool, start_bridge: Callable[..., Bridge], listener: Listener
) -> None:
    calm = start_bridge()
    calm.storage.create_all()
    box = outbox(calm.storage)
    listener.answer = status
    subscription(calm, listener.url)
    step = 0
    while True:
        step += 1
        (message,) = happen(calm, box)
        listener.received.clear()
        doomed = start_bridge()
        adapter = die_at(doomed.storage, step, after=after)
        try:
            deliveries.run(doomed, message.body, 1)
        except Killed:
            listener.answer = 200
            deliveries.run(calm, message.body, 2)
            for left in box.take():
                deliveries.run(calm, left.body, 1)
            listener.answer = status
        else:
            break
        posts = len(listener.received)
        # Between a post and the note of it there is no way to know: the subscriber has the id to tell.
        assert posts == 1 or (posts == 2 and len({one.id for one in listener.received}) == 1)
        assert list(calm.storage.table("deliveries").query_entities("result eq '200'"))
    assert adapter.count < step


def test_a_dead_subscriber_costs_no_attempts_while_it_rests(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    listener.answer = 500
    subscription(bridge, listener.url)
    messages = [happen(bridge, sent)[0] for _ in range(8)]
    answers = [run(bridge, sent, message)[0] for message in messages]
    assert len(listener.received) == 5
    assert [one.message["attempt"] for one in answers] == [1] * 5 + [0] * 3
    assert all(one.delay >= 10 for one in answers[5:])
    (later,) = run(bridge, sent, answers[-1])
    assert later.message["deferred"] == 2


def test_a_slow_subscriber_has_two_posts_open_and_a_fast_one_is_not_kept_waiting(
    bridge: Bridge, sent: Outbox, listener: Listener
) -> None:
    def answer(received: Received) -> tuple[int, dict[str, str]]:
        if received.path.endswith("slow"):
            time.sleep(2)
        return 200, {}

    listener.answer = answer
    subscription(bridge, listener.url + "/slow")
    subscription(bridge, listener.url + "/fast")
    messages = [message for _ in range(12) for message in happen(bridge, sent)]
    start = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda message: deliveries.run(bridge, message.body, 1), messages))
    fast, slow = listener.on("/hook/fast"), listener.on("/hook/slow")
    put_back = sent.take()
    assert len(slow) == 2
    assert len(slow) + len(fast) + len(put_back) == 24
    assert all(one.message["attempt"] == 0 for one in put_back)
    assert max(one.time for one in fast) - start < 1.9


def test_a_message_that_waited_for_days_is_a_dead_letter(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    listener.answer = 500
    subscription(bridge, listener.url)
    for _ in range(5):
        run(bridge, sent, happen(bridge, sent)[0])
    (message,) = happen(bridge, sent)
    old = replace(message, message=message.message | {"first": iso(now() - timedelta(days=6))})
    assert run(bridge, sent, old) == []
    assert letters(bridge)[0]["reason"] == "the subscriber stayed busy or out of reach"


def fail_since(bridge: Bridge, one: Subscription, since: timedelta) -> None:
    """Have the log say that nothing got through for so long."""
    row = {"PartitionKey": "log", "RowKey": one.id, "failures": 9, "failing": iso(now() - since), "delivered": ""}
    bridge.storage.table("subscriptions").upsert_entity(row)


def told(bridge: Bridge, sent: Outbox) -> list[tuple[str, str]]:
    messages = [one.message for one in sent.take("events")]
    return [(message["event"], message["body"]["data"]["subscriptionID"]) for message in messages]


def test_five_days_of_failures_disable_and_a_success_brings_back(
    bridge: Bridge, sent: Outbox, listener: Listener
) -> None:
    listener.answer = 500
    one = subscription(bridge, listener.url)
    fail_since(bridge, one, DISABLED_AFTER - timedelta(minutes=1))
    (early,) = happen(bridge, sent)
    run(bridge, sent, early)
    assert told(bridge, sent) == []
    fail_since(bridge, one, DISABLED_AFTER + timedelta(minutes=1))
    (message,), (waiting,) = happen(bridge, sent), happen(bridge, sent)
    (probe,) = run(bridge, sent, message)
    assert told(bridge, sent) == [("SubscriptionDisabled", one.id)]
    assert probe.delay == deliveries.PROBE_SECONDS
    assert happen(bridge, sent) == []
    assert run(bridge, sent, waiting) == []
    assert [letter["reason"] for letter in letters(bridge)] == ["the subscription is disabled"]
    (probe,) = run(bridge, sent, probe)
    assert (probe.delay, probe.message["probes"]) == (deliveries.PROBE_SECONDS, 2)
    assert told(bridge, sent) == []
    listener.answer = 200
    assert run(bridge, sent, probe) == []
    assert told(bridge, sent) == [("SubscriptionRecovered", one.id)]
    assert len(happen(bridge, sent)) == 1


def test_subscribing_again_tries_a_disabled_one_at_once(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    subscriptions(bridge.storage).change(one.id, lambda known: replace(known, disabled=now()))
    assert happen(bridge, sent) == []
    assert subscription(bridge, listener.url).id == one.id
    (message,) = happen(bridge, sent)
    run(bridge, sent, message)
    assert told(bridge, sent) == [("SubscriptionRecovered", one.id)]


def test_subscribing_again_begins_the_five_days_anew(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    listener.answer = 500
    one = subscription(bridge, listener.url)
    fail_since(bridge, one, DISABLED_AFTER + timedelta(minutes=1))
    subscriptions(bridge.storage).change(one.id, lambda known: replace(known, disabled=now()))
    body = json.dumps({"endpoint": listener.url}).encode()
    subscribing.subscribe(bridge, event_named(one.event), body, "https://bridge.example")
    message = next(row for row in happen(bridge, sent) if row.message["kind"] == "deliver")
    assert message.message["subscription"] == one.id
    (later,) = run(bridge, sent, message)
    assert later.delay < 10
    assert told(bridge, sent) == []


def test_the_log_holds_the_last_result_and_is_written_seldom(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    log = delivery_log(bridge.storage)
    run(bridge, sent, happen(bridge, sent)[0])
    first = log.read(one.id)
    assert (first["result"], first["attempt"], first["failures"]) == ("200", 1, 0)
    assert 0 <= first["milliseconds"] < 5000
    run(bridge, sent, happen(bridge, sent)[0])
    assert log.read(one.id).metadata["etag"] == first.metadata["etag"]
    listener.answer = 500
    run(bridge, sent, happen(bridge, sent)[0])
    run(bridge, sent, happen(bridge, sent)[0])
    failed = log.read(one.id)
    assert (failed["result"], failed["failures"], failed["delivered"]) == ("500", 2, first["delivered"])
    listener.answer = 200
    run(bridge, sent, happen(bridge, sent)[0])
    assert (log.read(one.id)["failures"], log.read(one.id)["failing"]) == (0, "")


def test_what_happens_before_other_instances_know_of_a_subscriber_is_caught_up(
    start_bridge: Callable[..., Bridge], listener: Listener
) -> None:
    here, there = start_bridge(), start_bridge()
    here.storage.create_all()
    ours, theirs = outbox(here.storage), outbox(there.storage)
    assert happen(there, theirs) == []
    one = subscription(here, listener.url)
    fanout.catch_up(here, one)
    (look,) = ours.take()
    assert look.delay > 2
    assert happen(there, theirs) == []
    known = happen(here, ours)
    other = happen(here, ours, "CallStarted")
    assert (len(known), other) == (1, [])
    run(here, ours, known[0])
    for message in run(here, ours, look):
        run(here, ours, message)
    assert len(listener.received) == 2
    assert len({delivery.id for delivery in listener.received}) == 2


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"kind": "deliver"},
        {"kind": "deliver", "subscription": "a", "event": "b", "token": "c", "attempt": "soon", "first": "x"},
        {"kind": "range", "subscription": "a", "since": "soon", "until": "later"},
        {"kind": "other"},
    ],
    ids=str,
)
def test_a_message_that_is_no_delivery_can_never_succeed(bridge: Bridge, message: dict[str, Any]) -> None:
    with pytest.raises(Unprocessable):
        deliveries.run(bridge, encode(message), 1)


def test_what_is_for_nobody_any_more_is_dropped(bridge: Bridge, sent: Outbox) -> None:
    fanout.send_delivery(bridge, new_id(), "event")
    (message,) = sent.take()
    assert run(bridge, sent, message) == []
    assert letters(bridge) == []
