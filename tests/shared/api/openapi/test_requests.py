"""The patterns of what subscribers send accept what the app takes and makes, and nothing that it refuses."""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.api.openapi.requests import ENDPOINT_PATTERN, HOSTS, SECRET_PATTERN, subscribe_request
from shared.api.subscribe import SubscribeRequest
from shared.phones import PREFIX_PATTERN
from shared.subscriptions.endpoints import check_endpoint
from shared.subscriptions.filter import Criteria
from shared.subscriptions.signatures import key_of, new_secret
from tests.growth import LINEAR, growth

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
        "https://my_host.example.org/a",
        "https://example.org:/a",
        "https://8.8.8.8.:443/a",
        "https://example.org:00443/a",
        "https://example.org/a#",
        "https://-a.example.org/",
        "https://a-.example.org/",
        "https://example.photographyyyyyyyyyyyyyyyyyyyy/a",
        "https://[2001:4860:4860::8.8.136.136]/b",
        "https://[2003:6:1::1]/b",
        "https://[2a00:1450:4001:827:0:0:0.0.32.14]",
        "https://123.example/",
        "https://0x10.example.org/",
        "https://example.org/" + "a" * 4076,
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
        "https://134744072/d",
        "https://0x08.8.8.8/e",
        "https://8.8.8.08/",
        "https://10.0.0.1./",
        "https://8.8/",
        "https://example.123/a",
        "https://example.0x1f/a",
        "https://[::ffff:8.8.8.8]/",
        "https://[2002:808:808::1]/",
        "https://[64:ff9b::8.8.8.8]/",
        "https://[2001::1]/",
        "https://[3fff::1]/",
        "https://[2606:4700::1111:8.8.8.08]/",
        "https://[2606:4700::1%25eth0]/",
        "https://[8.8.8.8]/",
        "https://com/",
        "https://com./",
        f"https://{'a' * 64}.example.org/",
        f"https://{'a.' * 127}ab/",
        "https://a..example.org/",
        "https://example.org../",
        "https://example.org/" + "a" * 4077,
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


def spelled(number: int, tail: bool) -> str:
    """An IPv6 address, the last two groups as IPv4 if so wanted."""
    address = ipaddress.IPv6Address(number)
    if not tail:
        return address.compressed
    return f"{address.exploded[:-9]}{ipaddress.IPv4Address(number & 0xFFFFFFFF)}"


BEGINNINGS = (
    "2001",
    "2001:db8",
    "2001:1ff",
    "2001:200",
    "2002",
    "2003",
    "2606:4700",
    "3ffe",
    "3fff",
    "3fff:1000",
    "fd00",
    "64:ff9b",
)
V6 = st.builds(
    spelled,
    st.builds(
        lambda begin, rest: int(ipaddress.IPv6Address(f"{begin}::")) | rest,
        st.sampled_from(BEGINNINGS),
        st.sampled_from([0, 1, 2**32 - 1, 0x808_0808, 2**64, 2**80 + 5]) | st.integers(0, 2**80),
    ),
    st.booleans(),
)
LABELS = st.sampled_from(
    ["a", "A1", "my_host", "-a", "a-", "_", "8", "10", "127", "0x8", "0xg", "08", "256", "a" * 63, "a" * 64, "", "com"]
)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PUNCTUATED = st.builds("".join, st.tuples(NAMES, st.sampled_from(["", "", ".", ".."])))
QUADS = st.integers(0, 2**32 - 1).map(lambda number: str(ipaddress.IPv4Address(number)))
URLS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(
            ["https://", "https://", "https://", "HTTPS://", "http://", "https:/", "https:///", "https://u@"]
        ),
        PUNCTUATED
        | QUADS
        | QUADS.map("{}.".format)
        | V6.map("[{}]".format)
        | st.sampled_from(["[::1]", "[8.8.8.8]", "[::ffff:8.8.8.8]", "::1", "a b.c"]),
        st.sampled_from(["", "", ":", ":0", ":00", ":443", ":00443", ":65535", ":65536", ":000065535", ":x", ":4 3"]),
        st.sampled_from(
            ["", "/", "/a?b", "?x", "#", "/a#", "/a#b", "/a\\b", "/ä", "/a b", "//", "/%zz", '/"<>|', "/@", "?#"]
        ),
    ),
)


@pytest.mark.slow
@given(URLS)
@settings(max_examples=1500)
def test_the_pattern_takes_what_the_app_takes(url: str) -> None:
    assert bool(re.search(ENDPOINT_PATTERN, url)) is is_taken(url), url


def is_taken(url: str) -> bool:
    """Whether the app takes an endpoint where no name can be resolved."""

    def literal(host: str, *_: Any, **__: Any) -> Any:
        return resolve(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)

    resolve = socket.getaddrinfo
    with patch.object(socket, "getaddrinfo", literal):
        try:
            check_endpoint(url, allow_loopback=False)
        except ValueError:
            return False
    return True


@pytest.mark.parametrize("part", ["a", "a.", "1.", "0", ":", "[", "0x0.", "_", "-", "a:0", "2001:", "%", "?", "#"])
@pytest.mark.parametrize("begin", ["https://", "https://a.example:0", "https://a.example/", "https://[2606:"])
def test_the_pattern_is_tried_in_time_that_grows_as_the_address_does(part: str, begin: str) -> None:
    assert growth(lambda size: re.search(ENDPOINT_PATTERN, begin + part * (size // len(part)) + " ")) < LINEAR


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
