"""The queues' consumers: nothing is lost, and different work has different dead letters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from shared.bridge import Bridge
from shared.errors import PbxUnavailable, StorageUnavailable, Unprocessable
from shared.pipeline.queues import CONSUMERS, DELIVERIES, Consumer, consume
from shared.storage.messages import LONGEST_MESSAGE, delete_payload, read, send
from shared.values import encode
from tests.outbox import Outbox, outbox
from tests.stored import dead_letters

EVENTS, MEDIA, _ = CONSUMERS
NUMBER = "4357a9bd-2086-40d5-b2a8-98eb830bd28e"


@pytest.fixture
def sent(bridge: Bridge) -> Outbox:
    bridge.storage.ready()
    return outbox(bridge.storage)


def failing(error: Exception) -> Consumer:
    def run(bridge: Bridge, message: Mapping[str, Any]) -> None:
        raise error

    return replace(EVENTS, run=run)


def hashed(body: bytes) -> str:
    return f"body-{hashlib.sha256(body).hexdigest()[:32]}"


@pytest.mark.parametrize(
    ("consumer", "body", "id"),
    [
        (EVENTS, b'{"id": "abc"}', "abc"),
        (MEDIA, b'{"kind": "voicemail", "id": 5, "action": "copy"}', "voicemail-5-copy"),
        (MEDIA, b'{"kind": "a/b", "id": "c"}', NUMBER),
        (EVENTS, b'{"id": "#?"}', NUMBER),
        (EVENTS, b'{"id": {"a": 1}}', NUMBER),
        (EVENTS, b'{"id": "' + b"x" * 2_000 + b'"}', NUMBER),
        (EVENTS, b'{"payload": "../x?y#z"}', NUMBER),
        (EVENTS, b"[]", NUMBER),
        (EVENTS, b"\xff\x00", NUMBER),
    ],
)
def test_hopeless_messages_are_dead_letters_at_once(bridge: Bridge, consumer: Consumer, body: bytes, id: str) -> None:
    consume(bridge, consumer, body, id=NUMBER, attempt=1)
    (dead,) = dead_letters(bridge.storage)
    assert (dead["kind"], dead["id"], dead["attempts"]) == (consumer.kind, id, 1)


@pytest.mark.parametrize("body", [b"{}", b"not json", b"\xff"])
def test_without_a_name_of_the_queues_the_body_names_the_dead_letter(bridge: Bridge, body: bytes) -> None:
    consume(bridge, EVENTS, body, id="", attempt=1)
    consume(bridge, EVENTS, body + b" ", id="", attempt=1)
    assert {dead["id"] for dead in dead_letters(bridge.storage)} == {hashed(body), hashed(body + b" ")}


def test_a_dead_letter_holds_what_a_pointer_led_to(bridge: Bridge, sent: Outbox) -> None:
    send(bridge.storage, "events", {"id": "a", "text": "x" * LONGEST_MESSAGE}, name="a")
    (pointer,) = sent.take("events")
    consume(bridge, failing(Unprocessable("no")), pointer.body, id=NUMBER, attempt=1)
    (dead,) = dead_letters(bridge.storage)
    assert (dead["id"], dead["payload"]) == ("a", "deadletters/event/a")


def test_a_long_message_is_put_back_as_the_pointer_it_came_as(bridge: Bridge, sent: Outbox) -> None:
    send(bridge.storage, "events", {"id": "a", "text": "x" * LONGEST_MESSAGE}, name="a")
    (pointer,) = sent.take("events")
    for tries in (1, 2):
        consume(bridge, failing(StorageUnavailable("x")), pointer.body, id=NUMBER, attempt=1)
        (pointer,) = sent.take("events")
        assert pointer.message["tries"] == {"storage": tries}
    assert len(pointer.body) < 300
    whole = read(bridge.storage, pointer.body)
    assert (whole["id"], whole["begun"], len(whole["text"])) == ("a", True, LONGEST_MESSAGE)


def test_a_body_that_waits_is_where_an_erasure_finds_it_and_what_is_erased_is_no_dead_letter(
    bridge: Bridge, sent: Outbox
) -> None:
    for tries in ({"others": 1}, {"others": 2}):
        body = next((one.body for one in sent.take("events")), encode({"id": "a", "body": {"b": 1}}))
        consume(bridge, failing(PbxUnavailable("op", "x")), body, id=NUMBER, attempt=1)
        assert sent.sent[-1].message["tries"] == tries
    (again,) = sent.take("events")
    assert "body" not in again.message
    assert read(bridge.storage, again.body)["body"] == {"b": 1}
    delete_payload(bridge.storage, again.message)
    consume(bridge, replace(EVENTS, run=never), again.body, id=NUMBER, attempt=1)
    assert (sent.take("events"), dead_letters(bridge.storage)) == ([], [])


def test_a_message_as_long_as_may_be_can_be_put_back(bridge: Bridge, sent: Outbox) -> None:
    send(bridge.storage, "events", {"id": "a", "text": "x" * (LONGEST_MESSAGE - 86)}, name="a")
    (message,) = sent.take("events")
    assert LONGEST_MESSAGE - 20 < len(encode(message.message)) <= LONGEST_MESSAGE
    tries = {"storage": 99_999, "others": 99_999}
    consume(bridge, failing(PbxUnavailable("op", "x")), encode(message.message | {"tries": tries}), id="", attempt=1)
    assert len(sent.take("events")) == 1


def never(bridge: Bridge, message: Mapping[str, Any]) -> None:
    raise AssertionError("it must not be run again")


def test_a_message_that_ends_its_process_each_time_is_a_dead_letter_in_the_end(bridge: Bridge, sent: Outbox) -> None:
    body, rounds = encode({"id": "a"}), 0
    while not dead_letters(bridge.storage):
        consume(bridge, replace(EVENTS, run=never), body, id=NUMBER, attempt=6)
        rounds += 1
        body = next((one.body for one in sent.take("events")), b"")
    (dead,) = dead_letters(bridge.storage)
    assert (rounds, dead["attempts"]) == (4, 4)
    assert dead["reason"] == "the process ended while it worked on this message, again and again"


def test_the_queue_s_count_alone_makes_no_dead_letter(bridge: Bridge, sent: Outbox) -> None:
    seen: list[Mapping[str, Any]] = []
    consumer = replace(EVENTS, run=lambda bridge, message: seen.append(message))
    send(bridge.storage, "events", {"id": "a", "text": "x" * LONGEST_MESSAGE, "tries": {"unforeseen": 4}}, name="a")
    (first,) = sent.take("events")
    consume(bridge, consumer, first.body, id=NUMBER, attempt=DELIVERIES + 1)
    (again,) = sent.take("events")
    assert (again.message["mark"], again.delay) == (first.message["mark"], 1)
    consume(bridge, consumer, again.body, id=NUMBER, attempt=1)
    assert [(message["id"], message["begun"]) for message in seen] == [("a", True)]
    assert not dead_letters(bridge.storage)


@pytest.mark.parametrize("error", [StorageUnavailable("x"), KeyError("x")], ids=["foreseen", "unforeseen"])
def test_a_run_that_ended_proves_that_no_process_did(error: Exception, bridge: Bridge, sent: Outbox) -> None:
    body = encode({"id": "a"})
    for _ in range(4):
        for attempt in (6, 1):
            consume(bridge, failing(error), body, id=NUMBER, attempt=attempt)
            (again,) = sent.take("events")
            body = again.body
    assert sum(again.message["tries"].values()) == 4
    assert not dead_letters(bridge.storage)


def test_unreadable_messages_are_dead_letters_at_any_dequeue_count(bridge: Bridge) -> None:
    consume(bridge, EVENTS, b"not json", id=NUMBER, attempt=6)
    (dead,) = dead_letters(bridge.storage)
    assert dead["reason"] == "the message is not JSON"


def test_a_message_that_was_delivered_before_may_have_been_begun(bridge: Bridge) -> None:
    seen: list[Any] = []
    consumer = replace(EVENTS, run=lambda bridge, message: seen.append(message.get("begun")))
    for attempt in (1, 2):
        consume(bridge, consumer, b'{"id": "a"}', id=NUMBER, attempt=attempt)
    assert seen == [None, True]
