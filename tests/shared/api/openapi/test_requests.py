"""The patterns of what subscribers send accept what the app takes and makes, and nothing that it refuses."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api.openapi.requests import ENDPOINT_PATTERN, HOSTS, SECRET_PATTERN, subscribe_request
from shared.api.subscribe import SubscribeRequest
from shared.phones import PREFIX_PATTERN
from shared.subscriptions.endpoints import check_endpoint
from shared.subscriptions.filter import Criteria
from shared.subscriptions.signatures import key_of, new_secret

FLOW = (
    "https://default0f1e2d3c4b5a69788796a5b4c3d2e1.0f.environment.api.powerplatform.com:443/powerautomate/automations"
    "/direct/workflows/0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke?api-version=1&sp=%2Ftriggers%2F"
    "manual%2Frun&sv=1.0&sig=aB-_c"
)


@pytest.mark.parametrize(
    "url",
    [
        FLOW,
        "https://prod-12.westeurope.logic.azure.com/workflows/1/triggers/m/paths/invoke?api-version=2016-10-01&sig=x",
        "https://3com.example/hook",
        "https://1.2.3.example.com/",
        "https://example.com:10443/hook",
        "https://example.com:65535",
        "https://example.com?x=1",
        "https://example.com./hook",
        "HTTPS://EXAMPLE.com/Hook",
        "https://8.8.8.8/hook",
        "https://192.30.252.1:8443?x",
        "https://[2606:4700::1111]/hook",
        "https://[2001:4860:4860::8888]:8443/hook",
        "https://[2a00:1450:4001:827:0:0:0:200e]?x=1",
        "https://xn--brziba-n7a.example/hook",
        'https://example.com/{a}|"b"[c]^`?<d>',
    ],
)
def test_an_endpoint_that_the_app_takes_fits(url: str) -> None:
    assert re.search(ENDPOINT_PATTERN, url)
    check_endpoint(url, allow_loopback=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://10.0.0.1/",
        "https://127.0.0.1/",
        "https://169.254.169.254/metadata",
        "https://168.63.129.16/",
        "https://[::1]/",
        "https://[fd00::1]/",
        "https://[2001:db8::1]/",
        "https://[2002:7f00:1::]/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://user@example.com/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https:///path",
    ],
)
def test_an_endpoint_that_the_app_refuses_does_not_fit(url: str) -> None:
    assert not re.search(ENDPOINT_PATTERN, url)
    with pytest.raises(ValueError):
        check_endpoint(url, allow_loopback=False)


# Names are left to the resolver, which takes its time; addresses are judged at once.
@given(st.from_regex(rf"https://(?:{'|'.join(HOSTS[1:])})(?::443)?", fullmatch=True))
def test_every_address_that_fits_is_taken(url: str) -> None:
    check_endpoint(url, allow_loopback=False)


@pytest.mark.parametrize("size", range(24, 65))
def test_a_secret_of_any_length_that_the_app_takes_fits(size: int) -> None:
    secret = f"whsec_{base64.b64encode(bytes(range(size))).decode()}"
    assert len(key_of(secret)) == size
    assert re.search(SECRET_PATTERN, secret)


@given(st.from_regex(SECRET_PATTERN, fullmatch=True))
def test_every_secret_that_fits_is_taken(secret: str) -> None:
    assert 24 <= len(key_of(secret)) <= 64


def test_a_secret_that_the_app_makes_fits_and_one_too_short_or_long_does_not() -> None:
    assert re.search(SECRET_PATTERN, new_secret())
    for size in (23, 65):
        assert not re.search(SECRET_PATTERN, f"whsec_{base64.b64encode(bytes(size)).decode()}")


@given(st.from_regex(PREFIX_PATTERN, fullmatch=True))
def test_every_prefix_that_fits_is_taken(prefix: str) -> None:
    assert Criteria(prefix=prefix).prefix


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
