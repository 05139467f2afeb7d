"""Replays post events to one subscriber again; dead letters are retried or discarded."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dev.listener import Listener
from shared import audit
from shared.bridge import Bridge
from shared.deliveries.drain import drain
from shared.errors import Invalid, Unprocessable
from shared.events.event import accept
from shared.events.table import event_named
from shared.pipeline import replay as module
from shared.pipeline.process import process
from shared.pipeline.queues import CONSUMERS
from shared.pipeline.replay import (
    RETRIED,
    Selection,
    discard,
    get_dead_letter,
    list_dead_letters,
    replay_dead_letters,
    replay_events,
    retry,
    run_range,
)
from shared.storage.messages import dead_letter
from shared.subscriptions import Subscription, subscriptions
from shared.times import iso, now
from shared.values import LONGEST_BODY, encode, read_body
from tests.shared.deliveries.conftest import environment, listener, sent
from tests.shared.deliveries.subscriber import FIXTURES, happen, places, set_state, state, subscription
from tests.stored import dead_letters

if TYPE_CHECKING:
    from tests.outbox import Outbox

__all__ = ["environment", "listener", "sent"]
MEDIA = {"kind": "recording", "id": 5, "action": "copy", "event": "e", "received": "2018-04-25T13:54:19Z"}


def replay(bridge: Bridge, one: Subscription, **more: Any) -> dict[str, Any]:
    body = {"date_from": iso(now() - timedelta(minutes=1)), **more}
    return replay_events(bridge, one.id, {}, encode(body))


def run_replays(bridge: Bridge, sent: Outbox) -> int:
    parts, messages = 0, [one.message for one in sent.take() if one.message["kind"] == "range"]
    while messages:
        run_range(bridge, messages[0])
        messages = [one.message for one in sent.take() if one.message["kind"] == "range"]
        parts += 1
    return parts


def test_a_replay_is_counted_first_then_posted_once_and_audited(
    bridge: Bridge, sent: Outbox, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)
    one = subscription(bridge, listener.url)
    for _ in range(5):
        happen(bridge, sent)
    happen(bridge, sent, "CallStarted")
    drain(bridge, one.id)
    counted = replay(bridge, one, dry_run=True)
    assert (counted["events"], counted["complete"]) == (5, True)
    sent.take()
    answer = replay(bridge, one)
    assert (answer["subscription"], answer["dry_run"]) == (one.id, False)
    (message,) = [other.message for other in sent.sent if other.message.get("kind") == "range"]
    assert run_replays(bridge, sent) >= 3
    # A repeated message posts nothing twice.
    run_range(bridge, message)
    run_replays(bridge, sent)
    drain(bridge, one.id)
    assert len(listener.received) == 10
    assert len({delivery.id for delivery in listener.received}) == 5
    row = audit.listed(bridge.storage, 9)[-1]
    assert (row["who"], row["what"], row["count"]) == ("master key", "replay events", 5)


def test_events_that_wait_for_a_retry_are_not_replayed(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    assert replay(bridge, one, dry_run=True)["events"] == 0
    replay(bridge, one)
    run_replays(bridge, sent)
    drain(bridge, one.id)
    assert len(listener.received) == 1


@pytest.mark.parametrize("status", [200, 500])
def test_a_replay_goes_to_a_disabled_subscriber_and_leaves_its_state_alone(
    status: int, bridge: Bridge, sent: Outbox, listener: Listener
) -> None:
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    drain(bridge, one.id)
    subscriptions(bridge).change(one.id, lambda known: replace(known, disabled=now()))
    set_state(bridge, one, resume=now() + timedelta(hours=1), rounds=9, failures=9, failing=now())
    before = state(bridge, one)
    replay(bridge, one)
    run_replays(bridge, sent)
    listener.answer = status
    drain(bridge, one.id)
    assert len(listener.received) == 2
    after = state(bridge, one)
    assert (after.rounds, after.failures, after.failing, after.resume) == (9, 9, before.failing, before.resume)
    assert subscriptions(bridge).get(one.id).disabled  # type: ignore[union-attr]
    assert len(places(bridge, one)) == (status != 200)


@pytest.mark.parametrize(
    "span", [{"date_from": 1}, {"date_from": -2, "date_to": -3}], ids=["in the future", "ends before it begins"]
)
def test_a_span_that_holds_nothing_is_refused(span: dict[str, int], bridge: Bridge, sent: Outbox) -> None:
    one = subscription(bridge, "http://127.0.0.1:9/")
    body = {name: iso(now() + timedelta(hours=hours)) for name, hours in span.items()}
    with pytest.raises(Invalid):
        replay_events(bridge, one.id, {}, encode(body))
    assert sent.take() == []
    with pytest.raises(Unprocessable):
        run_range(bridge, {"subscription": one.id, "since": "soon", "until": "later"})


def send_back(bridge: Bridge, **choice: Any) -> dict[str, Any]:
    return replay_dead_letters(bridge, encode(choice))


def test_every_consumer_s_dead_letters_can_go_back() -> None:
    assert {*RETRIED} == {row.kind for row in CONSUMERS} | {"refused"}


def test_each_dead_letter_lists_its_actions(bridge: Bridge, sent: Outbox) -> None:
    one = subscription(bridge, "http://127.0.0.1:9/")
    good = (FIXTURES / "CallStarted.json").read_bytes()
    accept(bridge, event_named("CallStarted"), good)
    (event,) = sent.take("events")
    made: list[tuple[str, str, bytes]] = [
        ("event", "fits", event.body),
        ("event", "not", b"{}"),
        ("media", "recording-5-copy", encode(MEDIA)),
        ("delivery", "ended", encode({"kind": "deliver", "subscription": "sub-nobody", "event": "e"})),
        ("delivery", "there", encode({"kind": "wake", "subscription": one.id})),
        ("refused", "CallStarted-fits", good),
        ("refused", "CallStarted-not", b'{"data": {}}'),
        ("refused", "CallStarted-large", b"x" * (LONGEST_BODY + 1)),
        ("polled", "contacts-1", b"{}"),
        ("other", "odd", b"?"),
    ]
    for kind, id, body in made:
        dead_letter(bridge.storage, kind=kind, id=id, reason="a test", body=body)
    listed = list_dead_letters(bridge, {})["data"]
    actions = {(row["kind"], row["id"]): row["actions"] for row in listed}
    can_retry = {key for key, found in actions.items() if "retry" in found}
    assert can_retry == {
        ("event", "fits"), ("media", "recording-5-copy"), ("delivery", "there"), ("refused", "CallStarted-fits")
    }  # fmt: skip
    assert all("discard" in found for found in actions.values())
    assert all(bool(row["cannotRetry"]) == (row["actions"] == ["discard"]) for row in listed)
    assert [row["cannotRetry"] for row in listed if row["kind"] == "refused"] == [
        None,
        "Body too large",
        "data.callID: it is required",
    ]
    assert [row["id"] for row in list_dead_letters(bridge, {"kind": "polled"})["data"]] == ["contacts-1"]


def test_the_audit_names_who_discards_and_retries(bridge: Bridge, sent: Outbox) -> None:
    dead_letter(bridge.storage, kind="media", id="recording-5-copy", reason="not there", body=encode(MEDIA))
    dead_letter(bridge.storage, kind="refused", id="CallStarted-1", reason="no JSON", body=b"\xff")
    retry(bridge, "media", "recording-5-copy")
    assert len(sent.take("media")) == 1
    with pytest.raises(Invalid):
        retry(bridge, "refused", "CallStarted-1")
    discard(bridge, "refused", "CallStarted-1", {"reason": "a test"}, who="Anna")
    assert dead_letters(bridge.storage) == []
    assert [(row["who"], row["what"], row["note"]) for row in audit.listed(bridge.storage, 9)] == [
        ("Anna", "discard dead letter", "refused/CallStarted-1: a test"),
        ("master key", "retry dead letter", "media/recording-5-copy"),
    ]


def test_a_body_that_is_gone_can_be_discarded(bridge: Bridge, sent: Outbox) -> None:
    dead_letter(bridge.storage, kind="event", id="long", reason="a test", body=b"{" + b" " * 40_000)
    bridge.storage.container("payloads").delete_blob("deadletters/event/long")
    shown = get_dead_letter(bridge, "event", "long")
    assert (shown["body"], shown["actions"]) == (None, ["discard"])


def test_a_delivery_that_was_given_up_is_tried_again(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    drain(bridge, one.id)
    event = listener.received[0].id
    body = encode({"kind": "deliver", "subscription": one.id, "event": event})
    dead_letter(bridge.storage, kind="delivery", id=f"{one.id}-{event}", reason="the last attempt: 500", body=body)
    assert send_back(bridge, kind="delivery") == {"replayed": 1, "kept": []}
    assert dead_letters(bridge.storage) == []
    for _ in range(2):
        drain(bridge, one.id)
    assert [delivery.id for delivery in listener.received] == [event, event]


def test_an_event_that_failed_too_often_has_its_effect(bridge: Bridge, sent: Outbox) -> None:
    body = (FIXTURES / "CallRecorded.json").read_bytes()
    accept(bridge, event_named("CallRecorded"), body)
    (event,) = sent.take("events")
    dead_letter(bridge.storage, kind="event", id=event.message["id"], reason="too often", body=event.body, attempts=5)
    process(bridge, event.message)
    assert len(sent.take("media")) == 1
    assert send_back(bridge, kind="event", id=event.message["id"])["replayed"] == 1
    (again,) = sent.take("events")
    process(bridge, again.message)
    assert sent.take("media") == []


def test_media_that_never_came_is_asked_for_from_the_start(bridge: Bridge, sent: Outbox) -> None:
    dead = encode(MEDIA | {"attempt": 7, "tries": {"others": 3}})
    dead_letter(bridge.storage, kind="media", id="recording-5", reason="not there", body=dead)
    assert send_back(bridge, kind="media")["replayed"] == 1
    (again,) = sent.take("media")
    assert (again.message["attempt"], again.message["id"]) == (0, 5)
    assert "tries" not in again.message


def test_dead_letters_without_retry_stay_and_a_limit_is_kept(bridge: Bridge, sent: Outbox) -> None:
    good = (FIXTURES / "CallStarted.json").read_bytes()
    for number, body in enumerate((good, b'{"data": {}}')):
        dead_letter(bridge.storage, kind="refused", id=f"CallStarted-{number}", reason="did not fit", body=body)
    dead_letter(bridge.storage, kind="other", id="it's", reason="why", body=b"?")
    assert send_back(bridge, kind="refused") == {"replayed": 1, "kept": ["CallStarted-1"]}
    assert send_back(bridge, kind="other", id="it's") == {"replayed": 0, "kept": ["it's"]}
    assert send_back(bridge, kind="' or '1' eq '1") == {"replayed": 0, "kept": []}
    for number in range(5):
        dead_letter(bridge.storage, kind="media", id=f"recording-{number}", reason="not there", body=encode(MEDIA))
    assert send_back(bridge, kind="media", limit=3)["replayed"] == 3
    assert len(dead_letters(bridge.storage)) == 4


def test_a_dead_letter_that_came_again_meanwhile_stays(
    bridge: Bridge, sent: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead: dict[str, Any] = {"kind": "media", "id": "recording-5-copy", "body": encode(MEDIA)}
    dead_letter(bridge.storage, reason="once", **dead)
    monkeypatch.setattr(module, "send", lambda *_, **__: dead_letter(bridge.storage, reason="again", **dead))
    assert send_back(bridge) == {"replayed": 1, "kept": []}
    assert [(one["reason"], one["attempts"]) for one in dead_letters(bridge.storage)] == [("again", 2)]


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (b"[]", {"body": "an object is expected"}),
        (b'{"limit": 0}', {"limit": "at least 1 is expected"}),
        (b'{"limit": 1001}', {"limit": "at most 1000 is expected"}),
        (b'{"limit": "5"}', {"limit": "a whole number is expected"}),
        (b'{"kid": "x"}', {"kid": "no such field"}),
    ],
    ids=str,
)
def test_a_selection_that_is_not_clear_is_refused(body: bytes, reasons: dict[str, str]) -> None:
    with pytest.raises(Invalid) as refused:
        read_body(Selection, body)
    assert refused.value.fields == reasons
