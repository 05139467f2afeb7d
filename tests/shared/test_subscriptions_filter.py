"""Filters match events in any spelling of numbers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.api.subscribe import NAMES, Criteria
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import event_named
from shared.subscriptions import TESTS, meets
from shared.times import now

CALL = {"callID": 1, "contactID": 966, "direction": "in", "caller": "27771153", "destination": "+37167000123"}
LOST = {"callerid": "+37127771153", "destination": "67000123", "attempts": 2}
VOICEMAIL = {"voicemailID": 5, "sender": "27771153"}


def received(event: str, data: dict[str, Any]) -> ReceivedEvent:
    row = event_named(event)
    envelope, checked = check_envelope(row, {"data": data})
    return ReceivedEvent(type=row, id="id", data=checked, envelope=envelope, origin="webhook", received=now())


def wants(wanted: dict[str, Any], event: str = "CallStarted", data: dict[str, Any] | None = None) -> bool:
    return meets(received(event, data or CALL), Criteria.model_validate(wanted).to_dict("LV"), "LV")


def test_every_part_of_a_filter_has_its_test() -> None:
    assert set(NAMES) == TESTS.keys()


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"direction": "in"},
        {"contact_id": 966},
        {"caller": "27771153"},
        {"caller": "\u202a+371\u00a027771153\u202c"},
        {"destination": "tel:+371-6700-0123"},
        {"prefix": "\u2066+371\u00a0277\u2069"},
        {"prefix": "00371277"},
        {"prefix": "277"},
        {"direction": "in", "caller": "27771153", "prefix": "+371"},
        {"direction": None, "caller": None},
    ],
    ids=str,
)
def test_matching_events_pass(wanted: dict[str, Any]) -> None:
    assert wants(wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        {"direction": "out"},
        {"contact_id": 967},
        {"caller": "+37027771153"},
        {"destination": "27771153"},
        {"prefix": "+370"},
    ],
    ids=str,
)
def test_other_events_do_not_pass(wanted: dict[str, Any]) -> None:
    assert not wants(wanted)


@pytest.mark.parametrize(("event", "data"), [("LostCallerAdded", LOST), ("VoicemailCreated", VOICEMAIL)])
def test_the_caller_has_one_name_in_all_events(event: str, data: dict[str, Any]) -> None:
    assert wants({"caller": "27771153"}, event, data)
    assert not wants({"caller": "27771154"}, event, data)


@pytest.mark.parametrize("wanted", [{"direction": "in"}, {"contact_id": 966}], ids=str)
def test_an_event_without_the_field_is_not_wanted(wanted: dict[str, Any]) -> None:
    assert not wants(wanted, "VoicemailCreated", VOICEMAIL)


@pytest.mark.parametrize(
    "wanted",
    [
        {"direction": "sideways"},
        {"contact_id": "966a"},
        {"contact_id": True},
        {"contact_id": 2**63},
        {"caller": "somebody"},
        {"prefix": ""},
        {"prefix": "+1234567890123456"},
        {"contact": 966},
    ],
    ids=str,
)
def test_an_unclear_filter_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Criteria.model_validate(wanted)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"caller": "27771153"}, {"caller": "+371 2777 1153"}),
        ({"destination": "67000123"}, {"destination": "\u202a+37167000123\u202c"}),
        ({"prefix": "00371"}, {"prefix": "+ 371"}),
        ({"contact_id": "966"}, {"contact_id": 966}),
    ],
    ids=str,
)
def test_a_filter_is_the_same_however_it_is_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    ours, theirs = (Criteria.model_validate(given).to_dict("LV") for given in (one, other))
    assert ours == theirs


@pytest.mark.parametrize("number", ["112", "1234", "+999"])
def test_an_invalid_number_of_a_filter_is_unchanged(number: str) -> None:
    assert Criteria.model_validate({"caller": number}).to_dict("LV") == {"caller": number}
