"""Messages: each says its version, age and mark, and a long one leads to its blob."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.errors import NewerRelease, Unprocessable
from shared.json_bodies import encode
from shared.storage.messages import LONGEST_MESSAGE, new_message, read, send, send_again
from shared.storage.versions import VERSION
from shared.times import now, parse_time
from tests.outbox import Outbox, outbox

if TYPE_CHECKING:
    from shared.storage.account import Storage

QUEUE = "events"


@pytest.fixture
def sent(storage: Storage) -> Outbox:
    storage.create_all()
    return outbox(storage)


def test_each_message_says_its_version_when_it_was_sent_and_a_mark_of_its_own(storage: Storage, sent: Outbox) -> None:
    for _ in range(2):
        send(storage, QUEUE, {"id": "a"}, name="a")
    first, second = (one.message for one in sent.take(QUEUE))
    assert first["v"] == VERSION
    assert abs(now() - parse_time(first["sent"])) < timedelta(minutes=1)
    assert first["mark"] != second["mark"]


def test_what_a_message_says_of_itself_stays_when_it_is_sent_on(storage: Storage, sent: Outbox) -> None:
    message = new_message({"id": "a"})
    send(storage, QUEUE, message, name="a", delay=7)
    (one,) = sent.take(QUEUE)
    assert (one.message, one.delay) == (message, 7)


def test_a_long_message_comes_back_whole_with_what_changed_outside(storage: Storage, sent: Outbox) -> None:
    send(storage, QUEUE, {"id": "a", "text": "ā" * LONGEST_MESSAGE}, name="a")
    (pointer,) = sent.take(QUEUE)
    assert pointer.message.keys() == {"v", "sent", "mark", "payload"}
    send_again(storage, QUEUE, pointer.body, {"begun": True, "tries": {"storage": 1}}, delay=1)
    (again,) = sent.take(QUEUE)
    whole = read(storage, again.body)
    assert whole["text"] == "ā" * LONGEST_MESSAGE
    assert (whole["begun"], whole["tries"], whole["mark"]) == (True, {"storage": 1}, pointer.message["mark"])
    assert "payload" not in whole


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"\xff", b"[" * 100_000, b'{"payload": "events/gone"}'])
def test_what_is_no_message_of_ours_can_never_succeed(storage: Storage, sent: Outbox, body: bytes) -> None:
    with pytest.raises(Unprocessable):
        read(storage, body)


@pytest.mark.parametrize("version", [VERSION + 1, 10**9])
def test_a_newer_release_s_message_is_not_read(storage: Storage, version: int) -> None:
    with pytest.raises(NewerRelease):
        read(storage, encode({"v": version, "id": "a"}))


@pytest.mark.parametrize("version", [None, "x", 1.5, VERSION])
def test_a_message_without_a_version_that_is_newer_is_read(storage: Storage, version: object) -> None:
    assert read(storage, encode({"id": "a", **({} if version is None else {"v": version})}))["id"] == "a"
