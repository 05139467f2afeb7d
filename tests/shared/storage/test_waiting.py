"""What a queue cannot take waits and is queued later, the oldest first; and nobody waits long for a 503."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import StorageUnavailable
from shared.json_bodies import encode
from shared.settings import Settings
from shared.storage.account import Storage
from shared.storage.deadline import within
from shared.storage.messages import PAYLOADS, put_payload, read
from shared.storage.waiting import PREFIX, queue_waiting, send_or_keep
from tests.breaking import break_connections
from tests.outbox import outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUE = "events"


@pytest.fixture
def whole(storage: Storage) -> Storage:
    storage.create_all()
    return storage


@pytest.fixture
def without(environment: dict[str, str]) -> Iterator[Callable[..., Storage]]:
    """A storage of which some services are gone: refused, or silent for ever."""
    with ExitStack() as stack:

        def start(*gone: str, silent: bool = False) -> Storage:
            port = 9
            if silent:
                server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
                port = server.getsockname()[1]
            parts = dict(part.split("=", 1) for part in environment["DataStorage"].strip(";").split(";"))
            parts |= {f"{service}Endpoint": f"http://127.0.0.1:{port}/a" for service in gone}
            text = ";".join(f"{name}={value}" for name, value in parts.items())
            return Storage(Settings.from_env(environment | {"DataStorage": text}).storage)

        yield start


def waiting(storage: Storage) -> list[str]:
    return [name for name in storage.container(PAYLOADS).list_blob_names() if name.startswith(PREFIX)]


def queued(storage: Storage) -> list[dict[str, Any]]:
    pages = storage.queue(QUEUE).receive_messages(messages_per_page=32)
    return [read(storage, message.content.encode()) for message in pages]


@pytest.mark.slow
@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_without_queues_messages_wait_and_come_oldest_first(
    whole: Storage, without: Callable[..., Storage], silent: bool
) -> None:
    crippled = without("Queue", silent=silent)
    for number in range(3):
        began = time.monotonic()
        send_or_keep(crippled, QUEUE, {"id": f"e{number}"}, name=f"e{number}")
        assert time.monotonic() - began < 5
    assert queue_waiting(without("Queue")) == 0
    assert [name.rpartition("-")[2] for name in waiting(whole)] == ["e0", "e1", "e2"]
    watched = outbox(whole)
    assert queue_waiting(whole) == 3
    assert sorted(one.message["id"] for one in watched.take(QUEUE)) == ["e0", "e1", "e2"]
    assert not waiting(whole)
    assert queue_waiting(whole) == 0


@pytest.mark.slow
@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_without_queues_and_blobs_the_sender_is_answered_within_five_seconds(
    whole: Storage, without: Callable[..., Storage], silent: bool
) -> None:
    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        send_or_keep(without("Queue", "Blob", silent=silent), QUEUE, {"id": "a"}, name="a")
    assert time.monotonic() - began < 5


def test_tables_are_not_asked(whole: Storage, without: Callable[..., Storage]) -> None:
    send_or_keep(without("Table"), QUEUE, {"id": "a"}, name="a")
    assert [message["id"] for message in queued(whole)] == ["a"]


def test_what_waits_is_what_was_sent_with_its_mark(whole: Storage, without: Callable[..., Storage]) -> None:
    send_or_keep(without("Queue"), QUEUE, {"id": "a", "text": "ā"}, name="a")
    (blob,) = waiting(whole)
    kept = whole.container(PAYLOADS).download_blob(blob).readall()
    queue_waiting(whole)
    assert [encode(message) for message in queued(whole)] == [kept]


@pytest.mark.parametrize(("name", "body"), [("events/1-x", b"not json"), ("other/1-x", b'{"id": "a"}')])
def test_what_cannot_be_queued_is_a_dead_letter_and_stops_nothing_else(whole: Storage, name: str, body: bytes) -> None:
    put_payload(whole, f"{PREFIX}/{name}", body)
    put_payload(whole, f"{PREFIX}/events/2-a", encode({"id": "a"}))
    queue_waiting(whole)
    assert [message["id"] for message in queued(whole)] == ["a"]
    (dead,) = whole.table("deadletters").list_entities()
    assert (dead["kind"], dead["id"]) == (PREFIX, "1-x")
    assert not waiting(whole)


def test_a_queue_that_goes_away_meanwhile_leaves_the_rest_waiting(whole: Storage) -> None:
    for number in range(4):
        put_payload(whole, f"{PREFIX}/events/{number}-a", encode({"id": "a"}))
    break_connections(whole, "POST", "/messages", times=99, after=False)
    assert queue_waiting(whole) == 0
    assert len(waiting(whole)) == 4


def test_a_delete_whose_answer_is_lost_stops_nothing_else(whole: Storage) -> None:
    for number in range(3):
        put_payload(whole, f"{PREFIX}/events/{number}-a", encode({"id": "a"}))
    broken = break_connections(whole, "DELETE", PAYLOADS)
    assert (queue_waiting(whole), broken.left) == (3, 0)
    assert not waiting(whole)


def test_no_request_begins_after_its_time(whole: Storage) -> None:
    watched = break_connections(whole, "none")
    with within(0), pytest.raises(StorageUnavailable):
        whole.table("events").get_entity("p", "r")
    assert not watched.sent
