"""The patterns of what subscribers send accept what the app takes and makes, and nothing that it refuses."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api.openapi.events import ENDPOINT_PATTERN, SECRET_PATTERN, subscribe_request
from shared.api.subscribe import SubscribeRequest
from shared.phones import PREFIX_PATTERN
from shared.subscriptions.endpoints import check_endpoint
from shared.subscriptions.filter import Criteria
from shared.subscriptions.subscription import key_of, new_secret


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
        check_endpoint(url, allow_loopback=False)


def test_a_secret_of_any_length_that_the_app_takes_fits() -> None:
    for size in range(24, 65):
        secret = f"whsec_{base64.b64encode(bytes(range(size))).decode()}"
        assert len(key_of(secret)) == size
        assert re.search(SECRET_PATTERN, secret), size


@pytest.mark.slow
@given(st.from_regex(SECRET_PATTERN, fullmatch=True))
def test_every_secret_that_fits_is_taken(secret: str) -> None:
    assert 24 <= len(key_of(secret)) <= 64


def test_a_secret_that_the_app_makes_fits_and_one_too_short_or_long_does_not() -> None:
    assert re.search(SECRET_PATTERN, new_secret())
    for size in (23, 65):
        assert not re.search(SECRET_PATTERN, f"whsec_{base64.b64encode(bytes(size)).decode()}")


@pytest.mark.parametrize("prefix", ["+371", "00371", "+371 67", "(67)", "6"])
def test_a_prefix_as_people_write_it_fits(prefix: str) -> None:
    assert re.search(PREFIX_PATTERN, prefix)


def test_the_body_has_the_model_s_own_fields_with_its_choices() -> None:
    schema = subscribe_request()
    assert schema["properties"].keys() == SubscribeRequest.model_fields.keys()
    filters = schema["properties"]["filter"]
    assert filters["properties"].keys() == Criteria.model_fields.keys()
    assert filters["additionalProperties"] is False
    assert filters["properties"]["direction"]["enum"] == ["in", "out"]
    assert schema["properties"]["shape"]["enum"] == ["native", "cloudevents"]
    assert filters["properties"]["contact_id"]["x-ms-dynamic-values"]["operationId"] == "ListContacts"
