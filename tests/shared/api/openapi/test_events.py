"""What the definition says of an event's data has every field that its deliveries carry."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from shared.events.table import EVENTS, Event, event_named
from shared.media.table import MEDIA
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES, resource
from shared.polling.run import as_event

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXTURES = pathlib.Path(__file__).parents[3] / "fixtures"
WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]


def names(event: Event) -> set[str]:
    return {field.name for field in event.model.fields}


def listed(name: str) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = json.loads((FIXTURES / "resources" / f"{name}.json").read_text())["data"]
    return data


@pytest.mark.parametrize("event", WEBHOOKS, ids=lambda event: event.name)
def test_a_webhook_s_fields_are_there(event: Event) -> None:
    posted = json.loads((FIXTURES / "events" / f"{event.name}.json").read_text())
    assert posted["data"].keys() <= names(event)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("call_history", "CallStarted"),
        ("call_history", "CallConnected"),
        ("call_history", "CallCompleted"),
        ("call_records", "CallRecorded"),
        ("voicemails", "VoicemailCreated"),
    ],
)
def test_a_reconciled_event_s_fields_are_there(source: str, name: str) -> None:
    for item in listed(source):
        assert as_event(item, resource(source), name).keys() <= names(event_named(name))


def polled() -> Iterator[tuple[Event, str]]:
    for row in RESOURCES:
        if row.editable:
            for happening in ("Created", "Updated", "Removed"):
                yield event_named(f"{row.noun}{happening}"), row.name


@pytest.mark.parametrize(("event", "name"), list(polled()), ids=lambda value: getattr(value, "name", None))
def test_a_noticed_item_s_fields_are_there(event: Event, name: str) -> None:
    for item in listed(name):
        assert item.keys() <= names(event)


@pytest.mark.parametrize("media", MEDIA, ids=lambda media: media.name)
def test_stored_audio_carries_all_that_is_known_but_the_pbx_s_address(media: Any) -> None:
    found = names(event_named(media.stored))
    item = operation(resource(media.resource).read_operation).item
    assert {field.name for field in item} - {media.url} <= found
    assert {"blobUrl", "sha256", "storedAt", "callID"} <= found
    assert media.url not in found
