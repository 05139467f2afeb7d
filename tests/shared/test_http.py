"""HTTP sessions: where they may connect to, when they end, and which connections they trust."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests

from dev.listener import Listener
from shared import http
from shared.http import LONGEST_WAIT, AddressRefused, ending_by, guarded_session, is_public, plain_session, retry_after

PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1")
INSIDE = [
    "127.255.0.9",
    "0.0.0.0",
    "10.0.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "203.0.113.9",
    "224.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fd00::1",
    "fe80::1",
    "2001:db8::1",
]


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener(lambda received: (200, {"Set-Cookie": "a=b"})) as listener:
        yield listener


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str, port: int = 0) -> None:
    """Have every name resolve to these addresses."""

    def found(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_addresses_of_the_internet_are_public_and_special_ones_are_not_in_any_wrapping() -> None:
    assert all(is_public(ipaddress.ip_address(address)) for address in PUBLIC)
    assert not any(is_public(ipaddress.ip_address(address)) for address in INSIDE)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1"])
def test_a_host_that_leads_inside_is_refused_however_it_is_written(host: str, listener: Listener) -> None:
    port = listener.origin.rpartition(":")[2]
    with guarded_session(allow_loopback=False) as session, pytest.raises(AddressRefused):
        session.post(f"http://{host}:{port}/", data=b"x", timeout=5)
    assert listener.received == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_session_judges_the_address_that_it_connects_to_and_not_the_name(
    scheme: str, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(listener.origin.rpartition(":")[2])
    resolving(monkeypatch, "127.0.0.1", port=port)
    with guarded_session(allow_loopback=False) as session, pytest.raises(AddressRefused):
        session.post(f"{scheme}://rebinding.example:{port}/", data=b"x", timeout=5)
    assert listener.received == []


def test_no_proxy_and_no_cookie_is_used(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for session in (plain_session(hosts=1, connections=1), guarded_session(allow_loopback=True)):
        with session:
            assert [session.post(listener.url, data=b"x", timeout=5).status_code for _ in range(2)] == [200, 200]
    assert not any("cookie" in received.headers for received in listener.received)


@pytest.mark.parametrize(("idle_seconds", "connections"), [(60, 1), (0.1, 2), (0, 3)])
def test_a_connection_that_was_idle_for_too_long_is_not_used_again(
    idle_seconds: float, connections: int, listener: Listener
) -> None:
    with plain_session(hosts=1, connections=1, idle_seconds=idle_seconds) as session:
        for number in range(3):
            if number == 2:
                time.sleep(0.15)
            session.post(listener.url, data=b"x", timeout=5)
    assert len({received.port for received in listener.received}) == connections


def test_a_host_of_many_addresses_that_hang_takes_no_longer_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        resolving(monkeypatch, *["127.0.0.1"] * 15, port=port)
        began = time.monotonic()
        refused = pytest.raises(requests.ConnectionError)
        with plain_session(hosts=1, connections=1) as session, refused, ending_by(began + 1):
            session.post(f"http://hanging.example:{port}/", data=b"x", timeout=0.4)
        assert time.monotonic() - began < 1.5
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    "target",
    ["/%7Efiles/a%2fb//c|d[1]?sig=a%2Fb+c%20d&x=~!$'()*,;:@", "/a/../b/./c?q=..", "/%zz?%", "/x?", "//double"],
)
def test_an_address_is_asked_for_byte_by_byte_as_it_was_given(target: str, listener: Listener) -> None:
    with guarded_session(allow_loopback=True) as session:
        session.post(f"{listener.origin}{target}", data=b"x", timeout=5)
    [received] = listener.received
    # The listener's library reduces two slashes at the beginning to one.
    assert received.target == target.replace("//double", "/double")
    assert "x-request-target" not in received.headers


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://h?a=b", "/?a=b"),
        ("https://h/ž?n=ā", "/%C5%BE?n=%C4%81"),
        ("https://h/a\r\nX: y", "/a%0D%0AX:%20y"),
        ("https://h:8443/a#part", "/a"),
    ],
)
def test_only_what_cannot_stand_in_a_request_line_is_encoded(url: str, target: str) -> None:
    assert http.request_target(url) == target


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((None, None), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("٧", None)),
        *(("0", 0), (" 7 ", 7), ("9" * 40, LONGEST_WAIT)),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0),
        ("Thu, 01 Jan 2970 00:00:10 GMT", LONGEST_WAIT),
        ("Thu, 99 Jan 1970 00:00:10 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: int | None) -> None:
    assert retry_after(text) == seconds
    in_ten_minutes = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    assert retry_after(in_ten_minutes) in (599, 600)
