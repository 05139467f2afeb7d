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
OTHERS = {"callerid": "26999999", "destination": "67000999", "last_contact": "2018-04-25T23:00:00Z"}
webhooks = pytest.mark.parametrize("event", WEBHOOKS, ids=lambda event: event.name)


def fixture(event: Event) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((FIXTURES / f"{event.name}.json").read_text())
    return payload


def id_of(event: Event, payload: dict[str, Any]) -> str:
    return event_id(event, check_envelope(event, payload)[1], "LV")


@webhooks
def test_every_spelling_finds_the_event(event: Event) -> None:
    for name in (event.name, *event.aliases):
        for spelling in (name, name.lower(), name.upper(), f"{name}Event", f"{name.lower()}EVENT", f" {name} "):
            assert find_event(spelling) is event
            assert check_envelope(event, fixture(event) | {"eventType": spelling})[0]["eventType"] == event.name
    assert find_event("CallParked") is find_event("") is None


def test_only_identifiers_are_required_of_the_pbx() -> None:
    for event in WEBHOOKS:
        assert {*event.model.required} == ({"callerid", "destination"} if event.waits else {event.key[0]})


@webhooks
def test_the_same_event_has_the_same_id_however_it_is_sent(event: Event) -> None:
    payload = fixture(event)
    again = {**payload, "eventType": f"{event.name}Event", "version": "v2", "data": {**payload["data"], "new": [1]}}
    for name, value in payload["data"].items():
        if isinstance(value, str):
            again["data"][name] = value.replace("+0000", "Z")
    if "callerid" in again["data"]:
        again["data"]["callerid"] = "+371" + again["data"]["callerid"]
    assert id_of(event, again) == id_of(event, payload)


@webhooks
def test_another_natural_key_or_name_is_another_event(event: Event) -> None:
    payload = fixture(event)
    ids = {id_of(event, payload)}
    alike = [other for other in WEBHOOKS if other.key == event.key]
    assert len({id_of(other, {"data": payload["data"]}) for other in alike}) == len(alike)
    for field in event.key:
        value = payload["data"].get(field)
        if value is None:
            continue
        other = OTHERS.get(field, value + 1 if isinstance(value, int) else None)
        ids.add(id_of(event, {**payload, "data": {**payload["data"], field: other}}))
    assert len(ids) == 1 + sum(field in payload["data"] for field in event.key)


@webhooks
def test_empty_and_null_fields_mean_absent_and_unknown_ones_ride_along(event: Event) -> None:
    payload = fixture(event)
    optional = {field.name for field in event.model.fields} - {*event.key}
    for nothing in ("", None):
        data = {**payload["data"], **dict.fromkeys(optional, nothing), "queueName": "Birojs", "nested": {"a": [1]}}
        envelope, checked = check_envelope(event, {**payload, "data": data, "tenant": 7})
        assert (envelope["data"], envelope["tenant"]) == (data, 7)
        assert checked.keys() - {*event.key, "queueName", "nested"} == set()


@webhooks
def test_another_events_name_is_refused(event: Event) -> None:
    other = next(row for row in WEBHOOKS if row is not event)
    with pytest.raises(Invalid) as refused:
        check_envelope(event, {**fixture(event), "eventType": other.name})
    assert set(refused.value.fields) == {"eventType"}
