"""Where the app may connect to: the internet, and this machine only where that is allowed."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from shared.addresses import AddressRefused, guarded_session, is_public, request_target
from shared.subscriptions.endpoints import check_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC = ("8.8.8.8", "212.93.97.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1")
INSIDE = {
    "loopback": "127.0.0.1",
    "all of 127": "127.255.0.9",
    "this network": "0.0.0.0",
    "10": "10.0.0.1",
    "172.16": "172.31.255.255",
    "192.168": "192.168.1.1",
    "carrier's NAT": "100.64.0.1",
    "link-local and the metadata service": "169.254.169.254",
    "Azure's host": "168.63.129.16",
    "protocol assignments": "192.0.0.8",
    "benchmarks": "198.18.0.1",
    "documentation": "203.0.113.9",
    "6to4 relays": "192.88.99.1",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "IPv6 none": "::",
    "IPv6 loopback": "::1",
    "IPv4-mapped loopback": "::ffff:127.0.0.1",
    "IPv4-mapped carrier's NAT": "::ffff:100.64.0.1",
    "IPv4-compatible loopback": "::127.0.0.1",
    "NAT64 of a private one": "64:ff9b::a00:1",
    "local NAT64": "64:ff9b:1::a00:1",
    "6to4 of loopback": "2002:7f00:1::",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "unique local": "fd00::1",
    "IPv6 link-local": "fe80::1",
    "site-local": "fec0::1",
    "IPv6 multicast": "ff0e::1",
    "IPv6 documentation": "2001:db8::1",
    "discarded": "100::1",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", INSIDE.values(), ids=INSIDE.keys())
def test_special_addresses_are_not_public_in_any_wrapping(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "10.0.0.1", "[::1]"])
def test_an_endpoint_that_leads_inside_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(ValueError, match=r"internet|usual spelling"):
        check_endpoint(f"https://{host}/hook", allow_loopback=False)


def test_this_machine_is_let_in_only_where_allowed_and_nothing_else_with_it() -> None:
    check_endpoint("http://127.0.0.1/hook", allow_loopback=True)
    with pytest.raises(ValueError, match="internet"):
        check_endpoint("https://10.0.0.1/hook", allow_loopback=True)


def test_a_name_with_one_address_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 0)) for ip in ("8.8.8.8", "192.168.1.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(ValueError, match="internet"):
        check_endpoint("https://mixed.example/hook", allow_loopback=False)


class Listener:
    """A server on this machine that notes every byte that reaches it, and answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.received = b""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.received += (part := connection.recv(4096))
                if part:
                    connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_session_sends_nothing_to_an_address_inside(scheme: str, host: str, listener: Listener) -> None:
    with guarded_session(allow_loopback=False) as session, pytest.raises(AddressRefused):
        session.get(f"{scheme}://{host}:{listener.port}/", timeout=5)
    assert listener.received == b""


def test_a_session_judges_the_address_it_is_connected_to_not_the_name(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["8.8.8.8", "127.0.0.1"])

    def rebinding(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), listener.port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    check_endpoint(f"https://rebinding.example:{listener.port}/", allow_loopback=False)
    with guarded_session(allow_loopback=False) as session, pytest.raises(AddressRefused):
        session.get(f"http://rebinding.example:{listener.port}/", timeout=5)
    assert listener.received == b""


def test_a_session_reaches_this_machine_where_allowed_and_past_any_proxy(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with guarded_session(allow_loopback=True) as session:
        assert session.get(f"http://127.0.0.1:{listener.port}/", timeout=5).status_code == 204


AS_GIVEN = [
    "/%7Efiles/a%2fb//c|d[1]?sig=a%2Fb+c%20d&x=~!$'()*,;:@",
    "/a/../b/./c?q=..",
    "/%zz?%",
    "/x?",
    '/{a}^`"<>\\?a={b}|c',
    "//double",
]


@pytest.mark.parametrize("target", AS_GIVEN)
def test_an_address_is_asked_for_byte_by_byte_as_it_was_given(target: str, listener: Listener) -> None:
    with guarded_session(allow_loopback=True) as session:
        session.post(f"http://127.0.0.1:{listener.port}{target}", data=b"x", timeout=5)
    line, _, headers = listener.received.partition(b"\r\n")
    assert line == f"POST {target} HTTP/1.1".encode()
    assert b"x-request-target" not in headers.lower()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://h", "/"),
        ("https://h?a=b", "/?a=b"),
        ("https://h/a b", "/a%20b"),
        ("https://h/ž?n=ā", "/%C5%BE?n=%C4%81"),
        ("https://h/a\r\nX: y", "/a%0D%0AX:%20y"),
        ("https://h/a#part", "/a"),
        ("https://h:8443/p", "/p"),
    ],
)
def test_only_what_cannot_stand_in_a_request_line_is_encoded(url: str, target: str) -> None:
    assert request_target(url) == target
