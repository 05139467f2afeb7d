"""Messages: plain JSON with their age and id, and a pointer to a long body."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.errors import Unprocessable
from shared.storage.account import Storage
from shared.storage.messages import LONGEST_MESSAGE, read, send
from shared.times import now, parse_time
from tests.outbox import Outbox, outbox

QUEUE = "events"


@pytest.fixture
def sent(storage: Storage) -> Outbox:
    storage.ready()
    return outbox(storage)


def test_a_message_has_its_age_and_a_mark_and_keeps_them_when_it_is_sent_on(storage: Storage, sent: Outbox) -> None:
    for _ in range(2):
        send(storage, QUEUE, {"id": "a"}, name="a")
    first, second = (one.message for one in sent.take(QUEUE))
    assert abs(now() - parse_time(first["sent"])) < timedelta(minutes=1)
    assert first["mark"] != second["mark"]
    send(storage, QUEUE, first, name="a", delay=7)
    (again,) = sent.take(QUEUE)
    assert (again.message, again.delay) == (first, 7)


@pytest.mark.parametrize("text", ["Jānis <a&b>", " \t\n ", "\x00\x1f\x7f", "\ud83d", "\ufffe\uffff", "😀"])
def test_any_text_travels_as_plain_json_that_people_can_read(storage: Storage, sent: Outbox, text: str) -> None:
    send(storage, QUEUE, {"text": text}, name="a")
    (message,) = storage.queue(QUEUE).receive_messages()
    assert message.content.isascii() and message.content.startswith('{"sent":')
    assert read(storage, message.content.encode())["text"] == text


@pytest.mark.parametrize("letter", ["x", "&", "<", "ā"])
@pytest.mark.parametrize("size", [60_000, 64_000, 70_000])
def test_a_message_of_any_length_can_be_sent(storage: Storage, sent: Outbox, letter: str, size: int) -> None:
    text = letter * (size // len(letter.encode("unicode_escape")))
    send(storage, QUEUE, {"text": text}, name="a")
    (one,) = sent.take(QUEUE)
    assert read(storage, one.body)["text"] == text
    assert ("payload" in one.message) == (size > LONGEST_MESSAGE - 100 or letter in "&<")


def test_a_long_message_comes_back_whole_with_what_changed_outside(storage: Storage, sent: Outbox) -> None:
    send(storage, QUEUE, {"id": "a", "text": "ā" * LONGEST_MESSAGE}, name="a")
    (pointer,) = sent.take(QUEUE)
    assert pointer.message.keys() == {"sent", "mark", "payload"}
    send(storage, QUEUE, {**pointer.message, "begun": True, "tries": {"storage": 1}}, name="a")
    (again,) = sent.take(QUEUE)
    whole = read(storage, again.body)
    assert whole == {"id": "a", "text": "ā" * LONGEST_MESSAGE, "begun": True, "tries": {"storage": 1}} | {
        name: pointer.message[name] for name in ("sent", "mark")
    }


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"\xff", b"[" * 100_000, b'{"payload": "events/gone"}'])
def test_a_foreign_message_is_hopeless(storage: Storage, sent: Outbox, body: bytes) -> None:
    with pytest.raises(Unprocessable):
        read(storage, body)
