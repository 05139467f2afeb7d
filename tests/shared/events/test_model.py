"""Only the key makes an event: all else that does not fit is kept, counts as absent, and is named as drift."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.model import item_drift, item_model
from shared.events.table import EVENTS, Event, event_id, event_named
from shared.identifiers import LARGEST_ID, identifier
from shared.pbx.fields import CALL, CONTACT, GROUP, LOST_CALL, RECORDING, VOICEMAIL, VOIP_ENDPOINT, Shape
from shared.pbx.operations import OPERATIONS, operation
from shared.pbx.resources import RESOURCES
from shared.times import iso, now
from tests.stored import stored_audio

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "events"
WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]
POLLED = [event for event in EVENTS if event.source == "poll"]
IDS = [event.name for event in WEBHOOKS]
IDENTIFIERS = {"callID", "contactID", "previous_contactID"}
CALL_ID = 1717149600000000  # 2024-05-31T10:00:00Z
_ODD = [[], {}, [5], {"id": 5}, True, False, "\u0000", "x" * 40_000, 1e300, -(2**70), float("1e20")]
ODDITIES = st.sampled_from(_ODD) | st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


def fixture(event: Event) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((FIXTURES / f"{event.name}.json").read_text())
    return payload


def received(event: Event, payload: Any) -> ReceivedEvent:
    envelope, data = check_envelope(event, payload)
    return ReceivedEvent(
        type=event, id=event_id(event, data, "LV"), data=data, envelope=envelope, origin="webhook", received=now()
    )


def required(event: Event) -> set[str]:
    return {name for name, field in event.model.model_fields.items() if field.is_required()}


def optional(event: Event) -> list[str]:
    return sorted(event.model.model_fields.keys() - required(event))


def test_only_identifiers_are_required_of_the_pbx() -> None:
    lost = {"callerid", "destination"}
    assert {event.name: required(event) for event in WEBHOOKS} == {
        event.name: lost if "callerid" in event.key else {event.key[0]} for event in WEBHOOKS
    }


@pytest.mark.parametrize("event", [event for event in WEBHOOKS if optional(event)], ids=lambda event: event.name)
@given(data=st.data())
def test_any_oddity_beside_the_key_leaves_the_event_as_it_is_without_it(event: Event, data: st.DataObject) -> None:
    payload = fixture(event)
    names = data.draw(st.lists(st.sampled_from(optional(event)), min_size=1, unique=True))
    odd = {name: data.draw(ODDITIES) for name in names}
    taken = received(event, {**payload, "data": {**payload["data"], **odd}})
    for name, value in odd.items():
        read = getattr(taken.data, name)
        assert taken.envelope["data"][name] == (read if name in IDENTIFIERS and read is not None else value)
        blank = isinstance(value, str) and not value.strip()
        assert (name in taken.drift) == (read is None and not blank)
    same = received(event, {**payload, "data": {**payload["data"], **dict.fromkeys(names)}})
    for name in optional(event):
        if name not in odd:
            kept, plain = getattr(taken.data, name), getattr(same.data, name)
            # Another start may leave less room for the times of the call.
            assert kept == plain or (kept is None and name in taken.drift) or plain is None


@pytest.mark.parametrize("event", WEBHOOKS, ids=IDS)
@given(value=ODDITIES)
def test_an_identifier_that_is_none_is_refused_and_named(event: Event, value: Any) -> None:
    for name in required(event) - {"callerid", "destination"}:
        payload = fixture(event)
        payload["data"][name] = value
        if identifier(value) is not None:
            assert received(event, payload).envelope["data"][name] == identifier(value)
            continue
        with pytest.raises(Invalid) as refused:
            check_envelope(event, payload)
        assert list(refused.value.fields) == [f"data.{name}"]


@pytest.mark.parametrize("value", ["1717149600000000", " 01717149600000000 ", 1717149600000000.0, "1717149600000000.0"])
def test_an_identifier_is_its_number_however_it_is_written(value: Any) -> None:
    event = event_named("CallStarted")
    plain = received(event, {"data": {"callID": CALL_ID, "contactID": 5}})
    event = received(event, {"data": {"callID": value, "contactID": "005"}})
    assert (event.id, event.envelope, event.drift) == (plain.id, plain.envelope, [])


@pytest.mark.parametrize(
    ("one", "other"), [("abc", "abd"), ([5], {"id": 5}), (-1, -2), ("5a", 5), (2**64, 2**65), (True, None)]
)
def test_a_part_of_the_key_that_cannot_be_read_enters_the_id_as_it_was_sent(one: Any, other: Any) -> None:
    for name in ("CallStarted", "CallConnected", "CallCompleted", "CallTransfered"):
        ids = [
            received(event_named(name), {"data": {"callID": CALL_ID, "contactID": value}}).id for value in (one, other)
        ]
        assert ids[0] != ids[1]
        assert received(event_named(name), {"data": {"callID": CALL_ID, "contactID": one}}).id == ids[0]


@pytest.mark.parametrize("event", POLLED, ids=lambda event: event.name)
@pytest.mark.parametrize("value", [{"a": 1}, "abc"])
def test_a_polled_item_with_an_odd_field_is_its_event(event: Event, value: Any) -> None:
    odd = {"name": value, "created": value, "contactID": value, "callConnected": value} | {event.key[0]: " 7 "}
    assert received(event, {"data": odd}).envelope["data"][event.key[0]] == 7


@pytest.mark.parametrize(
    "sentinel",
    [
        *("1970-01-01T00:00:00+0000", "-0001-11-30T00:00:00+0000", "0000-00-00 00:00:00", "2024-05-30T10:00:00+0000"),
        *("9999-12-31T00:00:00Z", "2025-06-30T10:00:00Z", "2024-05-31T09:30:00+0000", 0, False, []),
    ],
)
@pytest.mark.parametrize(
    "started", [{"callStarted": "2024-05-31T10:00:00+0000"}, {}], ids=["by its event", "by its id"]
)
def test_a_time_outside_of_its_call_says_nothing(sentinel: Any, started: dict[str, str]) -> None:
    sent = {"callID": CALL_ID, "contactID": 5, "callConnected": sentinel, **started}
    event = received(event_named("CallCompleted"), {"data": sent})
    assert event.data.callConnected is None  # type: ignore[attr-defined]
    assert event.drift == ["callConnected"]
    assert event.envelope["data"] == sent


@pytest.mark.parametrize(
    ("started", "connected", "call_id"),
    [
        ("2024-05-31T10:00:00Z", "2024-05-31T09:59:58Z", CALL_ID),
        ("2024-05-31T10:00:00Z", "2024-05-31T22:30:00Z", CALL_ID),
        ("2024-10-27T03:59:50+0300", "2024-10-27T03:00:05+0200", 1729990790000000),
        ("2024-10-27T03:59:50", "2024-10-27T03:00:05", 77),
        ("2018-04-25T13:54:19Z", "2018-04-25T13:54:31Z", CALL_ID),
        ("1970-01-01T00:00:00Z", "2024-05-31T10:00:12Z", CALL_ID),
        ("2024-05-31T10:00:00Z", "2024-05-31T10:00:12Z", 77),
    ],
    ids=["clocks", "hours later", "a zone changed", "the hour back", "old", "no start", "a counter"],
)
def test_an_odd_time_that_may_be_so_is_taken(started: str, connected: str, call_id: int) -> None:
    data = {"callID": call_id, "callStarted": started, "callConnected": connected, "connectionTime": 0}
    event = received(event_named("CallCompleted"), {"data": data})
    assert event.data.callConnected is not None  # type: ignore[attr-defined]
    assert event.drift == (["callStarted"] if started.startswith("1970") else [])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("CallStarted", ("caller", "destination")),
        ("LostCallerAdded", ("callerid", "destination")),
        ("VoicemailCreated", ("sender",)),
        ("CallRecorded", ("caller", "destination")),
    ],
)
def test_a_phone_number_is_its_digits_however_it_is_written(name: str, fields: tuple[str, ...]) -> None:
    event = event_named(name)
    found = []
    for value in ("27771153", 27771153, 27771153.0, "27771153.0"):
        taken = received(event, {"data": fixture(event)["data"] | dict.fromkeys(fields, value)})
        assert {getattr(taken.data, field) for field in fields} == {"27771153"}
        assert taken.envelope["data"][fields[0]] == value
        found.append((taken.id, taken.caller, taken.drift))
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("value", [True, ["27771153"], {"number": 27771153}])
def test_what_is_no_phone_number_is_refused_or_absent(value: Any) -> None:
    with pytest.raises(Invalid):
        received(event_named("LostCallerRemoved"), {"data": {"callerid": value, "destination": "67000123"}})
    assert received(event_named("CallStarted"), {"data": {"callID": CALL_ID, "caller": value}}).drift == ["caller"]


def test_a_length_that_no_call_has_says_nothing() -> None:
    for value in (-1, 10**9, "2:05", 1.5, None):
        event = received(event_named("VoicemailCreated"), {"data": {"voicemailID": 7, "length": value}})
        assert event.data.length is None  # type: ignore[attr-defined]
    event = received(event_named("VoicemailCreated"), {"data": {"voicemailID": 7, "length": "23"}})
    assert event.data.length == 23  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["RecordingStored", "VoicemailStored"])
@pytest.mark.parametrize("said", [{"callStarted": "2018-04-25T13:54:19+0000"}, {}])
def test_what_is_stored_happens_when_it_is_stored(name: str, said: dict[str, str]) -> None:
    event = event_named(name)
    data = {event.key[0]: 5, **stored_audio("https://account.blob.example/c/1.mp3"), **said}
    one = received(event, {"eventType": name, "data": data})
    assert iso(one.moment) == "2018-04-25T14:00:00Z"


def test_a_voicemail_happens_when_it_is_left() -> None:
    one = received(event_named("VoicemailCreated"), fixture(event_named("VoicemailCreated")))
    assert one.moment == one.data.callStarted  # type: ignore[attr-defined]


def test_a_spoilt_character_is_drift_by_the_name_of_encoding() -> None:
    event = received(event_named("CallStarted"), {"data": {"callID": CALL_ID, "caller": "Gon\ufffdalves"}})
    assert event.drift == ["encoding"]


@given(st.integers(0, LARGEST_ID))
def test_every_identifier_stays_exact(number: int) -> None:
    event = received(event_named("CallStarted"), {"data": {"callID": number, "contactID": str(number)}})
    assert event.envelope["data"] == {"callID": number, "contactID": number}


RESOURCE_FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "resources"
SHAPES = {row.id: row.item for row in OPERATIONS if row.lists}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("shape", "item", "names"),
    [
        (CONTACT, {"contactID": 1, "firstname": {"a": 1}, "archived": "maybe", "created": "1970-01-01"}, None),
        (CONTACT, {"contactID": 1, "lastname": ["x"], "avatar": True, "number": {}, "pets": 2}, None),
        (CONTACT, {"contactID": 1, "group_membership": "none", "created": 17, "archived": []}, None),
        (CALL, {"callID": 7, "status": "rang", "connectionTime": 10**12, "contactID": "x", "recordingID": -1}, None),
        (CALL, {"callID": 7, "callStarted": "2024-05-31T10:00:00Z", "callEnded": "2024-05-30T10:00:00Z"}, "callEnded"),
        (CALL, {"callID": 1717149600000000, "callConnected": "2001-01-01T00:00:00+0000"}, "callConnected"),
        (CALL, {"callID": 7, "caller": "x" * 2000, "direction": False}, None),
        (
            RECORDING,
            {"recordingID": 7, "callID": "x", "recordingURL": 1.5, "callConnected": "soon"},
            "callConnected,callID",
        ),
        (VOICEMAIL, {"voicemailID": 7, "length": "2:05", "voicemailBoxID": 1.5, "callStarted": "0000-00-00"}, None),
        (VOIP_ENDPOINT, {"id": 7, "employee_id": "nobody", "name": []}, None),
        (LOST_CALL, {"callerid": "1", "destination": "2", "attempts": "many", "last_contact": 5}, None),
        (GROUP, {"groupID": 1, "members": [{"contactID": "x", "role": 1}]}, "members.contactID,members.role"),
        (GROUP, {"groupID": 1, "members": {"0": {"contactID": 4}, "1": {"contactID": []}}}, "members.contactID"),
        (GROUP, {"groupID": 1, "members": [5], "type": "1e400"}, None),
        (GROUP, {"groupID": 1, "name": "Gon\ufffdalves"}, "encoding"),
    ],
    ids=lambda value: None if isinstance(value, tuple) else str(value)[:60],
)
def test_what_does_not_fit_is_named(shape: Shape, item: dict[str, Any], names: str | None) -> None:
    """All fields but identifiers and numbers of phones, where no names are given."""
    expected = item.keys() - {"contactID", "callID", "voicemailID", "id", "groupID", "callerid", "destination"}
    if names is None and shape is CALL and "status" in item:
        expected |= {"contactID"}
    assert item_drift(shape, item) == (set(names.split(",")) if names else expected)


@pytest.mark.parametrize(
    ("shape", "item"),
    [
        (
            CONTACT,
            {"contactID": "0001", "firstname": "", "lastname": None, "archived": "1", "created": "2019-04-01T08:00:00"},
        ),
        (CONTACT, {"contactID": 1, "number": 26550103, "archived": 0.0, "group_membership": []}),
        (CALL, {"callID": 7, "status": "2", "callConnected": "", "connectionTime": "30", "contactID": " 5 "}),
        (CALL, {"callID": 7, "callStarted": "2024-05-31T10:00:00Z", "callConnected": "2024-05-31T09:59:58Z"}),
        (GROUP, {"groupID": 1, "members": {"0": {"contactID": "4"}}, "created": "2019-04-01T08:00:00+0000"}),
        (GROUP, {"groupID": 1, "members": {}, "type": 1}),
    ],
    ids=lambda value: None if isinstance(value, tuple) else str(value)[:60],
)
def test_another_spelling_is_no_drift(shape: Shape, item: dict[str, Any]) -> None:
    assert item_drift(shape, item) == set()


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.name)
def test_what_the_reference_shows_has_no_drift(resource: Any) -> None:
    shape = operation(resource.read_operation).item
    for page in sorted((RESOURCE_FIXTURES / resource.name).glob("*.json")):
        for item in json.loads(page.read_text())["data"]:
            assert item_drift(shape, item) == set()


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@given(data=st.data())
def test_any_item_is_read_and_only_what_it_says_is_named(shape: Shape, data: st.DataObject) -> None:
    names = st.sampled_from([field.name for field in shape]) | st.text("abcXYZ_", min_size=1, max_size=4)
    item = data.draw(st.dictionaries(names, ANYTHING, max_size=6))
    said = {name for name, value in item.items() if value is not None and str(value).strip()}
    assert {name.split(".")[0] for name in item_drift(shape, item) - {"encoding"}} <= said
    assert "pets" in item_drift(shape, {**item, "pets": 2})


def test_an_item_of_an_event_needs_its_id() -> None:
    model = item_model("Group", GROUP, "groupID")
    assert [name for name, field in model.model_fields.items() if field.is_required()] == ["groupID"]
