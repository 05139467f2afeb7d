"""A post ends in time, follows no redirect, and has one of a few results."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from dev.listener import Listener
from shared.deliveries.post import Outcome, post
from tests.raw import RawServer, dripping, fixed

if TYPE_CHECKING:
    from tests.raw import Answer

SECONDS = 0.6


def send(url: str, **options: Any) -> Outcome:
    return post(url, b"{}", {"X": "y"}, **({"allow_loopback": True} | options))


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, "delivered"),
        (299, "delivered"),
        (304, "failed"),
        (400, "failed"),
        (404, "failed"),
        (410, "gone"),
        (503, "failed"),
    ],
)
def test_the_status_says_what_became_of_it(status: int, verdict: str) -> None:
    with Listener(status) as listener:
        outcome = send(listener.url)
    assert (outcome.verdict, outcome.result) == (verdict, str(status))


@pytest.mark.parametrize(("status", "verdict"), [(404, "gone"), (410, "gone"), (400, "failed"), (202, "delivered")])
def test_where_workflows_listen_a_404_is_the_end(status: int, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, port, *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
    )
    with Listener(status) as listener:
        url = listener.url.replace("127.0.0.1", "prod-1.westeurope.logic.azure.com")
        assert send(url).verdict == verdict


def test_a_private_address_is_refused_when_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as listener:
        assert send(listener.url, allow_loopback=False).result == "address refused"
        assert listener.received == []


def test_redirects_and_proxies_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as proxy, Listener(lambda received: (307, {"Location": proxy.url})) as listener:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert send(listener.url).result == "307"
        assert (len(listener.received), proxy.received) == (1, [])


def test_a_connection_serves_again() -> None:
    with Listener() as listener:
        assert [send(listener.url).verdict for _ in range(3)] == ["delivered"] * 3
        assert len({received.port for received in listener.received}) == 1


def _silent(server: RawServer, send: Callable[[bytes], None]) -> None:
    server.stopping.wait(5)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (_silent, "timeout"),
        (dripping(b"HTTP/1.1 200 OK\r\nX-Long: ", 0.05), "timeout"),
        (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", 0.05), "200"),
        (dripping(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", 0.05), "500"),
    ],
    ids=["silent", "headers byte by byte", "body byte by byte", "a chunk's size byte by byte"],
)
def test_nobody_takes_longer_than_is_given(answer: Answer, result: str) -> None:
    with RawServer(answer) as server:
        start = time.monotonic()
        assert send(server.origin, seconds=SECONDS).result == result
        assert time.monotonic() - start < 2 * SECONDS


def test_a_name_of_many_addresses_that_hang_has_no_more_time_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("0.0.0.0", 0))
        server.listen(0)
        # Its queue is full: every other connection hangs.
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", server.getsockname()[1])) for n in range(1, 16)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        start = time.monotonic()
        assert send("http://many.example/hook", seconds=SECONDS).result == "timeout"
        assert SECONDS * 0.9 < time.monotonic() - start < 2 * SECONDS


def test_an_endless_answer_is_cut_off() -> None:
    def endless(server: RawServer, send: Callable[[bytes], None]) -> None:
        send(b"HTTP/1.1 200 OK\r\n\r\n")
        while not server.stopping.is_set():
            send(b"a" * 65536)

    with RawServer(endless) as server:
        start = time.monotonic()
        assert send(server.origin).result == "200"
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x16\x03\x01\x00"], ids=str)
def test_what_is_no_answer_is_a_failure(answer: bytes) -> None:
    with RawServer(fixed(answer)) as server:
        assert send(server.origin).verdict == "failed"


def test_tls_has_to_be_trusted_and_somebody_to_be_there() -> None:
    with RawServer(fixed(b"no TLS here")) as server:
        assert send(server.origin.replace("http", "https", 1)).result == "no trusted TLS"
    assert send("http://127.0.0.1:9/hook").result == "out of reach"
