"""The schema of an event has all fields of its deliveries; patterns accept all values that the app accepts."""

from __future__ import annotations

import base64
import json
import pathlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api.definition import definition
from shared.api.schemas import ENDPOINT_PATTERN, SECRET_PATTERN
from shared.api.subscribe import Criteria, SubscribeRequest
from shared.events.table import EVENTS
from shared.media.blobs import MEDIA
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES, resource
from shared.polling.compare import as_event
from shared.subscriptions import key_of, new_secret
from shared.values import PREFIX_PATTERN
from tests.definitions import whole

DEFINITION = whole(definition("https", "app.example"))
FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures"
POSTED = [
    (event.name, json.loads((FIXTURES / "events" / f"{event.name}.json").read_text())["data"])
    for event in EVENTS
    if event.source == "pbx"
]


def listed(name: str) -> list[dict[str, Any]]:
    return list(json.loads((FIXTURES / "resources" / f"{name}.json").read_text())["data"])


NOTICED = [
    (f"{row.noun}{happening}", item)
    for row in RESOURCES
    if row.editable
    for happening in ("Created", "Updated", "Removed")
    for item in listed(row.name)
]
RECONCILED = [
    (name, as_event(item, resource(source), name))
    for source, names in (
        ("call_history", ("CallStarted", "CallConnected", "CallCompleted")),
        ("call_records", ("CallRecorded",)),
        ("voicemails", ("VoicemailCreated",)),
    )
    for name in names
    for item in listed(source)
]


def fields(event: str) -> set[str]:
    content = DEFINITION["paths"][f"/webhooks/{event}"]["x-ms-notification-content"]
    return set(content["schema"]["properties"]["data"]["properties"])


def test_every_field_that_is_posted_is_described() -> None:
    for name, data in (*POSTED, *NOTICED, *RECONCILED):
        assert data.keys() <= fields(name), name


@pytest.mark.parametrize("media", MEDIA, ids=lambda media: media.name)
def test_stored_audio_carries_all_that_is_known_but_the_pbx_s_address(media: Any) -> None:
    known = {field.name for field in operation(resource(media.resource).read_operation).item}
    found = fields(media.stored)
    assert (known - {media.url}) | {"blobUrl", "sha256", "storedAt", "callID"} <= found
    assert media.url not in found


def test_the_body_has_the_model_s_own_fields_with_its_choices() -> None:
    schema, model = DEFINITION["definitions"]["SubscribeRequest"], SubscribeRequest.model_json_schema()
    filters = schema["properties"]["filter"]
    assert schema["properties"].keys() == SubscribeRequest.model_fields.keys()
    assert filters["properties"].keys() == Criteria.model_fields.keys()
    assert filters["additionalProperties"] is False
    choices = model["$defs"]["Criteria"]["properties"]["direction"]["anyOf"][0]["enum"]
    assert filters["properties"]["direction"]["enum"] == choices
    assert schema["properties"]["shape"]["enum"] == model["properties"]["shape"]["enum"]
    assert filters["properties"]["contact_id"]["x-ms-dynamic-values"]["operationId"] == "ListContacts"


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://prod-12.westeurope.logic.azure.com/workflows/1/triggers/m/paths/invoke?sig=x", True),
        ("https://example.com:10443/hook", True),
        ("http://example.com/", False),
        ("ftp://example.com/", False),
    ],
)
def test_an_endpoint_that_fits_is_https(url: str, fits: bool) -> None:
    assert bool(re.search(ENDPOINT_PATTERN, url)) is fits
    if fits:
        SubscribeRequest(endpoint=url)


def test_only_valid_secrets_match_the_pattern() -> None:
    assert re.search(SECRET_PATTERN, new_secret())
    for size in range(20, 70):
        secret = f"whsec_{base64.b64encode(bytes(range(size))).decode()}"
        assert bool(re.search(SECRET_PATTERN, secret)) is (24 <= size <= 64), size


@pytest.mark.slow
@given(st.from_regex(SECRET_PATTERN, fullmatch=True))
def test_every_secret_that_fits_is_taken(secret: str) -> None:
    assert 24 <= len(key_of(secret)) <= 64


@pytest.mark.parametrize("prefix", ["+371", "00371", "+371 67", "(67)", "6"])
def test_a_prefix_as_people_write_it_fits(prefix: str) -> None:
    assert re.search(PREFIX_PATTERN, prefix)
