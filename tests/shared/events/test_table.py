"""The table of events: names, spellings and ids."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from shared.errors import Invalid
from shared.events.event import check_envelope
from shared.events.table import EVENTS, Event, event_id, find_event

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "events"
WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]
IDS = [event.name for event in WEBHOOKS]
LARGEST = 2**63 - 1
OTHERS = {"callerid": "26999999", "destination": "67000999", "last_contact": "2018-04-25T23:00:00Z"}


def fixture(event: Event) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((FIXTURES / f"{event.name}.json").read_text())
    return payload


def id_of(event: Event, payload: dict[str, Any]) -> str:
    return event_id(event, check_envelope(event, payload)[1], "LV")


def paths(error: pytest.ExceptionInfo[Invalid]) -> set[str]:
    return set(error.value.fields)


@pytest.mark.parametrize("event", WEBHOOKS, ids=IDS)
def test_every_spelling_finds_the_event(event: Event) -> None:
    for name in (event.name, *event.aliases):
        for spelling in (name, name.lower(), name.upper(), f"{name}Event", f"{name.lower()}EVENT", f" {name} "):
            assert find_event(spelling) is event


def test_an_unknown_name_finds_nothing() -> None:
    assert find_event("CallParked") is None
    assert find_event("") is None


@pytest.mark.parametrize("event", WEBHOOKS, ids=IDS)
def test_the_same_event_has_the_same_id_however_it_is_sent(event: Event) -> None:
    payload = fixture(event)
    again = {**payload, "eventType": f"{event.name}Event", "version": "v2", "data": {**payload["data"], "new": [1]}}
    for name, value in payload["data"].items():
        if isinstance(value, str):
            again["data"][name] = value.replace("+0000", "Z")
    if "callerid" in again["data"]:
        again["data"]["callerid"] = "+371" + again["data"]["callerid"]
    assert id_of(event, again) == id_of(event, payload)


@pytest.mark.parametrize("event", WEBHOOKS, ids=IDS)
def test_another_natural_key_is_another_event(event: Event) -> None:
    payload = fixture(event)
    ids = {id_of(event, payload)}
    for field in event.key:
        value = payload["data"].get(field)
        if value is None:
            continue
        other = OTHERS.get(field, value + 1 if isinstance(value, int) else None)
        ids.add(id_of(event, {**payload, "data": {**payload["data"], field: other}}))
    assert len(ids) == 1 + sum(field in payload["data"] for field in event.key)


def test_ids_differ_between_events_of_the_same_key() -> None:
    payload = fixture(WEBHOOKS[0])["data"]
    alike = [event for event in WEBHOOKS if event.key == ("callID", "contactID")]
    assert len({id_of(event, {"data": payload}) for event in alike}) == len(alike) > 1


@pytest.mark.parametrize("event", WEBHOOKS, ids=IDS)
def test_empty_and_null_fields_mean_absent(event: Event) -> None:
    payload = fixture(event)
    optional = set(event.model.model_fields) - set(event.key)
    data = {**payload["data"], **dict.fromkeys(optional, "")}
    _, checked = check_envelope(event, {**payload, "data": data})
    assert all(getattr(checked, field) is None for field in optional)
    data = {**payload["data"], **dict.fromkeys(optional)}
    assert all(getattr(check_envelope(event, {**payload, "data": data})[1], field) is None for field in optional)


@pytest.mark.parametrize("event", WEBHOOKS, ids=IDS)
def test_unknown_fields_ride_along(event: Event) -> None:
    payload = fixture(event)
    data = {**payload["data"], "queueName": "Birojs", "nested": {"a": [1]}}
    envelope, checked = check_envelope(event, {**payload, "data": data, "tenant": 7})
    assert envelope["data"] == data
    assert envelope["tenant"] == 7
    assert set(checked.model_extra or {}) == {"queueName", "nested"}


@pytest.mark.parametrize("event", WEBHOOKS, ids=IDS)
def test_another_events_name_is_refused(event: Event) -> None:
    other = next(row for row in WEBHOOKS if row is not event)
    with pytest.raises(Invalid) as refused:
        check_envelope(event, {**fixture(event), "eventType": other.name})
    assert paths(refused) == {"eventType"}


@pytest.mark.parametrize("field", ["callID", "recordingID", "voicemailID"])
@pytest.mark.parametrize("value", [None, "x", 1.5, True, {}, -1, 2**63])
def test_an_identifier_that_is_none_is_refused_with_its_path(field: str, value: Any) -> None:
    for event in WEBHOOKS:
        if event.key[0] != field:
            continue
        payload = fixture(event)
        with pytest.raises(Invalid) as refused:
            check_envelope(event, {**payload, "data": {**payload["data"], field: value}})
        assert paths(refused) == {f"data.{field}"}


@pytest.mark.parametrize("event", [event for event in WEBHOOKS if "callerid" in event.key], ids=lambda row: row.name)
def test_a_lost_caller_names_both_sides_though_one_may_be_withheld(event: Event) -> None:
    payload = fixture(event)
    without = {name: value for name, value in payload["data"].items() if name != "callerid"}
    with pytest.raises(Invalid):
        check_envelope(event, {**payload, "data": without})
    check_envelope(event, {**payload, "data": {**without, "callerid": ""}})


def test_the_largest_identifier_stays_exact() -> None:
    for value in (LARGEST, str(LARGEST)):
        _, data = check_envelope(WEBHOOKS[0], {"data": {"callID": value}})
        assert data.callID == LARGEST  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "2018-04-25T13:54:19+0000",
        "2018-04-25T13:54:19Z",
        "2018-04-25T16:54:19+0300",
        "2018-04-25T13:54:19.0000000+00:00",
        "2018-04-25T13:54:19",
        "2018-04-25t13:54:19z",
    ],
)
def test_every_way_to_write_a_time_is_read_as_utc(text: str) -> None:
    _, data = check_envelope(WEBHOOKS[0], {"data": {"callID": 1, "callStarted": text}})
    assert data.moment is not None
    assert data.moment.isoformat() == "2018-04-25T13:54:19+00:00"


@pytest.mark.parametrize("value", [None, [], "x", 1, {}, {"data": None}, {"data": []}, {"data": {}}, {"data": "{}"}])
def test_an_envelope_without_usable_data_is_refused(value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        check_envelope(WEBHOOKS[0], value)
    assert set(refused.value.fields.values()) <= {"an object is expected", "it is required"}


def test_reasons_never_hold_the_value_that_was_sent() -> None:
    with pytest.raises(Invalid) as refused:
        sent = {"callID": "27771153x", "callStarted": "27771153y", "caller": ["27771153z"]}
        check_envelope(WEBHOOKS[0], {"data": sent})
    assert "27771153" not in str(refused.value)
