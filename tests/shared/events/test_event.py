"""Receiving events: only key fields are required; other fields that do not match are kept and reported as drift."""

from __future__ import annotations

import gzip
import json
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bridge import Bridge
from shared.errors import BODY_TOO_LARGE, INVALID_FIELDS, INVALID_JSON, Answer, Invalid, Refused, StorageUnavailable
from shared.events.event import ReceivedEvent, accept, check_envelope, event_of
from shared.events.table import EVENTS, Event, event_id, event_named
from shared.storage import messages
from shared.times import iso
from shared.values import LARGEST_ID, LONGEST_BODY, identifier
from tests.breaking import break_connections
from tests.events import HEARD, received
from tests.stored import dead_letters, stored_audio

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "events"
WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]
STARTED = event_named("CallStarted")
CALL_ID = 1717149600000000  # 2024-05-31T10:00:00Z
DATA = {"callID": CALL_ID, "caller": "27771153"}
ENVELOPE = {"type": "Event", "eventType": "CallStarted", "version": "v1", "data": DATA}
_ODD = [[], {}, [5], {"id": 5}, True, False, "\u0000", "x" * 40_000, 1e300, -(2**70), float("1e20")]
ODDITIES = st.sampled_from(_ODD) | st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
NAMES = st.sampled_from(["data", "callID", "eventType", "type", "version"]) | st.text()
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
webhooks = pytest.mark.parametrize("event", WEBHOOKS, ids=lambda event: event.name)


def body(event: str) -> bytes:
    return (FIXTURES / f"{event}.json").read_bytes()


def read(event: Event, payload: Any) -> ReceivedEvent:
    envelope, data = check_envelope(event, payload)
    id = event_id(event, data, "LV")
    return ReceivedEvent(type=event, id=id, data=data, envelope=envelope, origin="webhook", received=HEARD)


def optional(event: Event) -> list[str]:
    return [field.name for field in event.model.fields if field.name not in event.model.required]


def queued(bridge: Bridge) -> list[dict[str, Any]]:
    pages = bridge.storage.queue("events").receive_messages(messages_per_page=32)
    return [messages.read(bridge.storage, message.content.encode()) for message in pages]


@pytest.mark.parametrize(
    "value",
    [
        ENVELOPE,
        [ENVELOPE],
        json.dumps(ENVELOPE),
        {**DATA, "type": "Event", "eventType": "CallStarted", "version": "v1"},
        ENVELOPE | {"data": {**DATA, "callID": f" 0{CALL_ID}.0 "}},
        ENVELOPE | {"data": {**DATA, "callID": float(CALL_ID)}},
    ],
    ids=["plain", "list", "text", "flat", "id as text", "id as float"],
)
def test_the_same_event_is_read_however_it_is_wrapped(value: Any) -> None:
    event = read(STARTED, value)
    assert (event.envelope, event.data["callID"], event.drift) == (ENVELOPE, CALL_ID, [])


@pytest.mark.parametrize("field", ["type", "eventType", "version"])
@pytest.mark.parametrize("odd", [["CallConnected"], {"name": "CallConnected"}, True, None, " "])
def test_an_odd_word_around_the_data_says_nothing(field: str, odd: Any) -> None:
    event = read(STARTED, ENVELOPE | {field: odd})
    assert event.envelope == ENVELOPE | ({} if field == "eventType" else {field: odd})
    assert event.drift == ([field] if isinstance(odd, list | dict) and field != "eventType" else [])


@pytest.mark.parametrize(
    "value",
    [
        *(None, [], "x", 1, {}, {"data": None}, {"data": []}, {"data": {}}, {"data": "{}"}, "CallStarted"),
        *([ENVELOPE, ENVELOPE], [[ENVELOPE]], [json.dumps(ENVELOPE)], json.dumps([ENVELOPE])),
        *(ENVELOPE | {"data": [DATA]}, ENVELOPE | {"data": json.dumps(DATA)}, {"data": ENVELOPE}),
    ],
    ids=ascii,
)
def test_several_events_none_and_deeper_wrapping_are_refused(value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        check_envelope(STARTED, value)
    assert set(refused.value.fields.values()) <= {"an object is expected", "it is required"}


@given(ANYTHING)
def test_anything_is_an_event_with_its_identifier_or_refused(value: Any) -> None:
    try:
        envelope, data = check_envelope(STARTED, value)
    except Invalid:
        return
    assert envelope["data"]["callID"] == data["callID"]
    assert envelope["eventType"] == "CallStarted"
    json.dumps(envelope)


@pytest.mark.parametrize("event", [event for event in WEBHOOKS if optional(event)], ids=lambda event: event.name)
@given(data=st.data())
def test_any_oddity_beside_the_key_leaves_the_event_as_it_is_without_it(event: Event, data: st.DataObject) -> None:
    payload = json.loads(body(event.name))
    names = data.draw(st.lists(st.sampled_from(optional(event)), min_size=1, unique=True))
    odd = {name: data.draw(ODDITIES) for name in names}
    taken = read(event, {**payload, "data": {**payload["data"], **odd}})
    for name, value in odd.items():
        kept = taken.data.get(name)
        is_identifier = name in ("callID", "contactID", "previous_contactID") and kept is not None
        assert taken.envelope["data"][name] == (kept if is_identifier else value)
        blank = isinstance(value, str) and not value.strip()
        assert (name in taken.drift) == (kept is None and not blank)
    same = read(event, {**payload, "data": {**payload["data"], **dict.fromkeys(names)}})
    for name in optional(event):
        if name not in odd:
            kept, plain = taken.data.get(name), same.data.get(name)
            # Another start may leave less room for the times of the call.
            assert kept == plain or (kept is None and name in taken.drift) or plain is None


@webhooks
@given(value=ODDITIES)
def test_an_identifier_that_is_none_is_refused_and_named(event: Event, value: Any) -> None:
    for name in {*event.model.required} - {"callerid", "destination"}:
        payload = json.loads(body(event.name))
        payload["data"][name] = value
        if identifier(value) is not None:
            assert read(event, payload).envelope["data"][name] == identifier(value)
            continue
        with pytest.raises(Invalid) as refused:
            check_envelope(event, payload)
        assert list(refused.value.fields) == [f"data.{name}"]


@given(st.integers(0, LARGEST_ID))
def test_every_identifier_stays_exact(number: int) -> None:
    event = received("CallStarted", callID=number, contactID=str(number))
    assert event.envelope["data"] == {"callID": number, "contactID": number}


def test_reasons_never_hold_the_value_that_was_sent() -> None:
    with pytest.raises(Invalid) as refused:
        received("CallStarted", callID="27771153x", callStarted="27771153y", caller=["27771153z"])
    assert "27771153" not in str(refused.value)


@pytest.mark.parametrize(
    ("one", "other"), [("abc", "abd"), ([5], {"id": 5}), (-1, -2), ("5a", 5), (2**64, 2**65), (True, None)]
)
def test_a_part_of_the_key_that_cannot_be_read_enters_the_id_as_it_was_sent(one: Any, other: Any) -> None:
    for name in ("CallStarted", "CallConnected", "CallCompleted", "CallTransfered"):
        ids = [received(name, callID=CALL_ID, contactID=value).id for value in (one, other, one)]
        assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("event", [row for row in EVENTS if row.source == "poll"], ids=lambda event: event.name)
@pytest.mark.parametrize("value", [{"a": 1}, "abc"])
def test_a_polled_item_with_an_odd_field_is_its_event(event: Event, value: Any) -> None:
    odd = {"name": value, "created": value, "contactID": value, "callConnected": value} | {event.key[0]: " 7 "}
    assert read(event, {"data": odd}).envelope["data"][event.key[0]] == 7


@pytest.mark.parametrize(
    ("connected", "fits"),
    [
        *(("2024-05-31T09:59:58Z", True), ("2024-05-31T22:30:00Z", True), ("2024-05-31T10:00:12", True)),
        *(("1970-01-01T00:00:00+0000", False), ("-0001-11-30T00:00:00+0000", False), ("0000-00-00 00:00:00", False)),
        *(("2024-05-30T10:00:00+0000", False), ("2025-06-30T10:00:00Z", False), ("2024-05-31T09:30:00+0000", False)),
        *(("9999-12-31T00:00:00Z", False), (0, False), (False, False), ([], False)),
    ],
)
@pytest.mark.parametrize(
    "started", [{"callStarted": "2024-05-31T10:00:00+0000"}, {}], ids=["by its event", "by its id"]
)
def test_a_time_outside_of_its_call_says_nothing(connected: Any, fits: bool, started: dict[str, str]) -> None:
    event = received("CallCompleted", callID=CALL_ID, contactID=5, callConnected=connected, **started)
    assert ("callConnected" in event.data) is fits
    assert event.drift == ([] if fits else ["callConnected"])
    assert event.envelope["data"]["callConnected"] == connected


@pytest.mark.parametrize(
    ("name", "fields"),
    [("CallStarted", ("caller", "destination")), ("LostCallerAdded", ("callerid", "destination")),
     ("VoicemailCreated", ("sender",)), ("CallRecorded", ("caller", "destination"))],
)  # fmt: skip
def test_a_phone_number_is_its_digits_however_it_is_written(name: str, fields: tuple[str, ...]) -> None:
    found = []
    for value in ("27771153", 27771153, 27771153.0, "27771153.0"):
        taken = received(name, **json.loads(body(name))["data"] | dict.fromkeys(fields, value))
        assert {taken.data.get(field) for field in fields} == {"27771153"}
        assert taken.envelope["data"][fields[0]] == value
        found.append((taken.id, taken.caller, taken.drift))
    assert all(one == found[0] for one in found)


def test_a_lost_caller_names_both_sides_though_one_may_be_withheld() -> None:
    pair = {"callerid": "27771153", "destination": "67000123"}
    for name in ("LostCallerAdded", "LostCallerUpdated", "LostCallerRemoved"):
        for value in ("", None, 27771153, "anonymous"):
            received(name, **pair | {"callerid": value})
        for wrong in ({"callerid": ["27771153"]}, {"destination": True}, {"callerid": {"number": "27771153"}}):
            with pytest.raises(Invalid, match=rf"data\.{next(iter(wrong))}"):
                received(name, **pair | wrong)
        with pytest.raises(Invalid):
            received(name, destination="67000123")
    assert received("CallStarted", callID=CALL_ID, caller=["27771153"]).drift == ["caller"]


def test_a_length_that_no_call_has_says_nothing() -> None:
    for value in (-1, 10**9, "2:05", 1.5, None):
        assert "length" not in received("VoicemailCreated", voicemailID=7, length=value).data
    assert received("VoicemailCreated", voicemailID=7, length="23").data["length"] == 23


def test_an_event_happens_when_it_says_or_is_heard() -> None:
    left = received("VoicemailCreated", **json.loads(body("VoicemailCreated"))["data"])
    assert left.moment == left.data["callStarted"]
    assert received("CallRecorded", recordingID=5).moment == HEARD
    for name, key in (("RecordingStored", "recordingID"), ("VoicemailStored", "voicemailID")):
        stored = received(name, **{key: 5}, **stored_audio("https://account.blob.example/c/1.mp3"))
        assert iso(stored.moment) == "2018-04-25T14:00:00Z"


def test_a_spoilt_character_is_drift_by_the_name_of_encoding() -> None:
    assert received("CallStarted", callID=CALL_ID, caller="Gon\ufffdalves").drift == ["encoding"]


@webhooks
def test_an_event_is_queued_whole_under_the_id_that_is_answered(event: Event, bridge: Bridge) -> None:
    sent = body(event.name)
    id = accept(bridge, event, sent)
    (message,) = queued(bridge)
    assert (message["id"], message["body"]) == (id, json.loads(sent))
    # An event without a time or number gets a new id each time; the row of its pair knows a repeat.
    assert (accept(bridge, event, sent) == id) is (event.name != "LostCallerRemoved")


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"not json", INVALID_JSON),
        (b'{"data": {}}', INVALID_FIELDS),
        (b'{"data": "' + b"x" * LONGEST_BODY + b'"}', BODY_TOO_LARGE),
        (gzip.compress(b'{"data": {}}'), INVALID_JSON),
    ],
    ids=["no JSON", "no fields", "too large", "no text"],
)
def test_what_is_refused_is_kept_as_a_dead_letter(sent: bytes, answer: Answer, bridge: Bridge) -> None:
    for attempts in (1, 2):
        with pytest.raises(Refused) as refused:
            accept(bridge, STARTED, sent)
        assert refused.value.answer is answer
        (row,) = dead_letters(bridge.storage)
        assert (row["attempts"], row["kind"]) == (attempts, "refused")
        assert row["reason"].startswith(answer.title)
    kept = messages.get_payload(bridge.storage, row["payload"]) if "payload" in row else row["body"].encode()
    assert kept == sent
    assert not queued(bridge)


@pytest.mark.parametrize(
    ("sent", "method", "part"),
    [(body("CallStarted"), "POST", "messages"), (b"not json", "GET", "deadletters")],
    ids=["good", "refused"],
)
def test_without_storage_nothing_is_taken(sent: bytes, method: str, part: str, bridge: Bridge) -> None:
    break_connections(bridge.storage, method, part, times=99, after=False)
    with pytest.raises(StorageUnavailable):
        accept(bridge, STARTED, sent)


@pytest.mark.parametrize("number", ["NaN", "7" * 5000], ids=lambda number: number[:9])
@pytest.mark.parametrize("name", ["x", "contactID", "caller", "callID"])
def test_a_number_that_nothing_can_hold_loses_no_event(name: str, number: str, bridge: Bridge) -> None:
    sent = f'{{"data": {{"callID": {CALL_ID}, "{name}": {number}}}}}'.encode()
    if name == "callID":
        with pytest.raises(Invalid, match=r"data\.callID"):
            accept(bridge, STARTED, sent)
        return
    accept(bridge, STARTED, sent)
    (message,) = queued(bridge)
    assert message["body"]["data"] == {"callID": CALL_ID, name: number}
    # A text may be any: that of a caller, too.
    assert event_of(message).drift == ([] if name == "caller" and number == "NaN" else [name])
