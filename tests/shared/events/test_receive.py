"""Taking events in: what is answered is what was kept."""

from __future__ import annotations

import gzip
import json
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import BODY_TOO_LARGE, INVALID_FIELDS, INVALID_JSON, Answer, Invalid, Refused, StorageUnavailable
from shared.events.event import event_of
from shared.events.receive import accept
from shared.events.table import EVENTS, Event, event_named
from shared.json_bodies import LONGEST_BODY
from shared.storage import messages
from tests.breaking import break_connections
from tests.stored import dead_letters

if TYPE_CHECKING:
    from shared.bridge import Bridge

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "events"
WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]
IDS = [event.name for event in WEBHOOKS]


def body(event: str) -> bytes:
    return (FIXTURES / f"{event}.json").read_bytes()


def queued(bridge: Bridge) -> list[dict[str, Any]]:
    pages = bridge.storage.queue("events").receive_messages(messages_per_page=32)
    return [messages.read(bridge.storage, message.content.encode()) for message in pages]


@pytest.mark.parametrize("event", WEBHOOKS, ids=IDS)
def test_an_event_is_queued_whole_under_the_id_that_is_answered(event: Event, bridge: Bridge) -> None:
    sent = body(event.name)
    id = accept(bridge.storage, bridge.settings, event, sent)
    (message,) = queued(bridge)
    assert message["id"] == id
    assert message["body"] == json.loads(sent)
    # What says neither when nor which one it is has an id of its own each time; its case knows a repeat.
    assert (accept(bridge.storage, bridge.settings, event, sent) == id) is (event.name != "LostCallerRemoved")


@pytest.mark.parametrize("event", WEBHOOKS[:2], ids=IDS[:2])
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"not json", INVALID_JSON),
        (b'{"data": {}}', INVALID_FIELDS),
        (b'{"data": 1}', INVALID_FIELDS),
        (b'{"data": "' + b"x" * LONGEST_BODY + b'"}', BODY_TOO_LARGE),
        (gzip.compress(b'{"data": {}}'), INVALID_JSON),
    ],
    ids=["no JSON", "no fields", "no object", "too large", "no text"],
)
def test_what_is_refused_is_kept_as_a_dead_letter(event: Event, sent: bytes, answer: Answer, bridge: Bridge) -> None:
    for attempts in (1, 2):
        with pytest.raises(Refused) as refused:
            accept(bridge.storage, bridge.settings, event, sent)
        assert refused.value.answer is answer
        (row,) = dead_letters(bridge.storage)
        assert row["attempts"] == attempts
        assert row["kind"] == "refused"
        assert row["reason"].startswith(answer.title)
    kept = messages.get_payload(bridge.storage, row["payload"]) if "payload" in row else row["body"].encode()
    assert kept == sent
    assert not queued(bridge)


def test_an_event_under_another_spelling_is_stored_under_one_name(bridge: Bridge) -> None:
    sent = json.loads(body("LostCallerAdded")) | {"eventType": "lostcallercreatedEVENT"}
    accept(bridge.storage, bridge.settings, event_named("LostCallerAdded"), json.dumps(sent).encode())
    (message,) = queued(bridge)
    assert message["body"]["eventType"] == "LostCallerAdded"


@pytest.mark.parametrize(
    ("sent", "method", "part"),
    [(body("CallStarted"), "POST", "messages"), (b"not json", "GET", "deadletters")],
    ids=["good", "refused"],
)
def test_without_storage_nothing_is_taken(sent: bytes, method: str, part: str, bridge: Bridge) -> None:
    break_connections(bridge.storage, method, part, times=99, after=False)
    with pytest.raises(StorageUnavailable):
        accept(bridge.storage, bridge.settings, event_named("CallStarted"), sent)


@pytest.mark.parametrize("number", [{"number": "27771153"}, ["27771153"], True], ids=str)
@pytest.mark.parametrize("name", ["callerid", "destination"])
def test_a_lost_caller_whose_number_is_no_text_is_refused(name: str, number: Any, bridge: Bridge) -> None:
    data = {"callerid": "27771153", "destination": "67000123"} | {name: number}
    with pytest.raises(Invalid, match=rf"data\.{name}"):
        accept(bridge.storage, bridge.settings, event_named("LostCallerAdded"), json.dumps({"data": data}).encode())


@pytest.mark.parametrize("number", ["", None, 27771153, "anonymous"], ids=str)
def test_a_lost_caller_may_withhold_the_number_or_send_digits(number: Any, bridge: Bridge) -> None:
    data = {"callerid": number, "destination": "67000123"}
    accept(bridge.storage, bridge.settings, event_named("LostCallerAdded"), json.dumps({"data": data}).encode())


@pytest.mark.parametrize("number", ["NaN", "7" * 5000], ids=lambda number: number[:9])
@pytest.mark.parametrize("name", ["x", "contactID", "caller"])
def test_a_number_that_nothing_can_hold_loses_no_event(name: str, number: str, bridge: Bridge) -> None:
    sent = f'{{"data": {{"callID": 1717149600000000, "{name}": {number}}}}}'.encode()
    accept(bridge.storage, bridge.settings, event_named("CallCompleted"), sent)
    (message,) = queued(bridge)
    assert message["body"]["data"] == {"callID": 1717149600000000, name: number}
    # A text may be any: that of a caller, too.
    assert event_of(message).drift == ([] if name == "caller" and len(number) < 1000 else [name])
    assert dead_letters(bridge.storage) == []


@pytest.mark.parametrize("number", ["NaN", "7" * 5000], ids=lambda number: number[:9])
def test_an_identifier_that_nothing_can_hold_is_named(number: str, bridge: Bridge) -> None:
    with pytest.raises(Invalid) as refused:
        accept(
            bridge.storage, bridge.settings, event_named("CallStarted"), f'{{"data": {{"callID": {number}}}}}'.encode()
        )
    assert list(refused.value.fields) == ["data.callID"]
