"""Downloads of audio: whole or not at all, from allowed hosts only, and ended in time."""

from __future__ import annotations

import gzip
import logging
import math
import re
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from shared.errors import MediaError, MediaNotReady, MediaRefused, MediaUnreachable
from shared.media.audio import allowed, download
from shared.settings import Settings
from tests.raw import RawServer, dripping, fixed, head

if TYPE_CHECKING:
    from tests.raw import Answer

AUDIO = b"ID3\x04" + bytes(range(256)) * 400
PATH = "/files/c2VjcmV0"
KEY = {"Authorization": "Bearer the-key"}


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, server: RawServer) -> Settings:
    return replace(settings, pbx_base_url=f"{server.origin}/api/v2/")


def chunk(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


def fetch(server: RawServer, settings: Settings, until: float = math.inf, size: int = 70_000) -> bytes:
    with download(f"{server.origin}{PATH}", settings, KEY, until) as file:
        parts = list(iter(lambda: file.read(size), b""))
        assert file.excerpt.size == sum(map(len, parts))
        assert all(len(part) == size for part in parts[:-1])
        return b"".join(parts)


CHUNKED = "Transfer-Encoding: chunked"
LENGTH = f"Content-Length: {len(AUDIO)}"
WHOLE = {
    "with its length": fixed(head(LENGTH), AUDIO),
    "byte by byte at first": fixed(head(LENGTH), *(AUDIO[i : i + 1] for i in range(30)), AUDIO[30:]),
    "in chunks": fixed(head(CHUNKED), chunk(AUDIO[:5]), chunk(AUDIO[5:]), b"0\r\n\r\n"),
    "until the connection closes": fixed(head(), AUDIO),
    "with a length that is no number": fixed(head("Content-Length: many"), AUDIO),
}


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
def test_a_whole_file_comes_to_the_byte(answer: Answer, server: RawServer, settings: Settings) -> None:
    server.answers += [answer] * 3
    assert [fetch(server, settings, size=size) for size in (1000, 70_000, 10**6)] == [AUDIO] * 3
    assert b"Accept-Encoding: identity" in server.asked[0]
    assert b"Bearer the-key" in server.asked[0]


CUT = {
    "shorter than its length": fixed(head(LENGTH), AUDIO[:-1]),
    "a length and no body": fixed(head(LENGTH)),
    "in chunks, without the last": fixed(head(CHUNKED), chunk(AUDIO)),
    "in the middle of a chunk": fixed(head(CHUNKED), chunk(AUDIO)[:500]),
    "a chunk of no size": fixed(head(CHUNKED), b"zz\r\n", AUDIO),
}
NO_ANSWER = {
    "nothing": fixed(),
    "no HTTP": fixed(b"220 ready\r\n\r\n"),
    "a part": fixed(head("Content-Range: bytes 0-99/102405", status="206 Partial Content"), AUDIO[:100]),
    "a redirect to nowhere": fixed(head("Content-Length: 0", status="302 Found")),
    "a redirect outside": fixed(head("Location: https://other.example/c2VjcmV0", status="302 Found")),
}


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
def test_a_file_that_breaks_off_is_cut_and_keeps_what_came(
    answer: Answer, server: RawServer, settings: Settings
) -> None:
    server.answers.append(answer)
    with download(f"{server.origin}{PATH}", settings, KEY, math.inf) as file:
        content = b"".join(iter(lambda: file.read(70_000), b""))
        assert file.is_cut
        assert AUDIO.startswith(content)
        assert len(content) == len(AUDIO) - 1 or answer is not CUT["shorter than its length"]


@pytest.mark.parametrize("case", NO_ANSWER)
def test_what_is_no_whole_file_is_asked_for_again_and_its_address_and_the_key_are_not_repeated(
    case: str, server: RawServer, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.answers.append(NO_ANSWER[case])
    with pytest.raises((MediaNotReady, MediaUnreachable)) as caught:
        fetch(server, settings)
    said = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert not [secret for secret in ("c2VjcmV0", "the-key") if secret in said]


def test_a_host_that_is_gone_is_out_of_reach(server: RawServer, settings: Settings) -> None:
    server.__exit__()
    with pytest.raises(MediaUnreachable, match="out of reach"):
        fetch(server, settings)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKED = {
    "gzip": gzip.compress(AUDIO),
    "x-gzip": gzip.compress(AUDIO),
    "GZip": gzip.compress(AUDIO[:50_000]) + gzip.compress(AUDIO[50_000:]),
    "deflate": zlib.compress(AUDIO),
    "Deflate": raw_deflate(AUDIO),
    "identity": AUDIO,
    "aws-chunked": AUDIO,
}


@pytest.mark.parametrize("encoding", PACKED)
def test_gzip_and_deflate_are_undone(encoding: str, server: RawServer, settings: Settings) -> None:
    packed, name = PACKED[encoding], f"Content-Encoding: {encoding}"
    server.answers += [
        fixed(head(name, f"Content-Length: {len(packed)}"), packed),
        fixed(head(name, CHUNKED), chunk(packed[:5]), chunk(packed[5:]), b"0\r\n\r\n"),
    ]
    assert fetch(server, settings) == fetch(server, settings) == AUDIO


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "Deflate", "identity"])
@pytest.mark.parametrize("change", ["", "cut", "more"])
def test_a_packed_file_that_breaks_off_is_cut(
    change: str, encoding: str, server: RawServer, settings: Settings
) -> None:
    packed = PACKED[encoding]
    body = packed[:-40] if change == "cut" else packed + b"\0" * 40 * (change == "more")
    server.answers.append(fixed(head(f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}"), body))
    with download(f"{server.origin}{PATH}", settings, KEY, math.inf) as file:
        while file.read(70_000):
            pass
        assert file.is_cut == (change == "cut" and encoding != "identity")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, zstd"])
def test_any_other_packing_is_not_ready(encoding: str, server: RawServer, settings: Settings) -> None:
    body = bytes(range(50, 250)) * 20
    server.answers.append(fixed(head(f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}"), body))
    with pytest.raises(MediaNotReady, match="packed in an unknown way"):
        fetch(server, settings)


def test_what_is_packed_small_does_not_fill_the_memory(server: RawServer, settings: Settings) -> None:
    body = gzip.compress(bytes(64 << 20))
    server.answers.append(fixed(head("Content-Encoding: gzip", f"Content-Length: {len(body)}"), body))
    tracemalloc.start()
    try:
        with download(f"{server.origin}{PATH}", settings, KEY, math.inf) as file:
            while part := file.read(1 << 20):
                assert len(part) <= 1 << 20
            assert file.excerpt.size == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


REDIRECTS = {
    "//{host}/files//a%2F": "/files//a%2F",
    "http://{host}/files/a|b[1]?sig=a%2fb+c": "/files/a|b[1]?sig=a%2fb+c",
    "HTTP://{host}": "/",
    "/files/a b;c": "/files/a%20b;c",
    "rel/a": "/files/rel/a",
    "../a": "/a",
    "ā": "/files/%C4%81",
}


@pytest.mark.parametrize(("location", "target"), REDIRECTS.items())
def test_a_redirect_is_followed_to_the_byte(location: str, target: str, server: RawServer, settings: Settings) -> None:
    there = location.replace("{host}", server.origin.removeprefix("http://")).encode()
    moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: " + there + b"\r\n\r\n"
    server.answers += [fixed(moved), fixed(head("Content-Length: 3"), b"ID3")]
    with download(f"{server.origin}{PATH}?sig=1", settings, KEY, math.inf) as file:
        assert file.read(10) == b"ID3"
    assert server.asked[1].split(b" ")[1] == target.encode()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/files/a?b=1&amp;c=2", "/files/a?b=1&c=2"),
        ("files/a", "/api/v2/files/a"),
        (" {origin}/files/a%2F?x&amp;y\n", "/files/a%2F?x&y"),
        ("/files/ā", "/files/%C4%81"),
    ],
)
def test_a_relative_address_is_the_pbxs_own(url: str, target: str, server: RawServer, settings: Settings) -> None:
    server.answers.append(fixed(head("Content-Length: 3"), b"ID3"))
    with download(url.replace("{origin}", server.origin), settings, KEY, math.inf) as file:
        assert file.read(10) == b"ID3"
    assert server.asked[0].split(b" ")[1] == target.encode()
    assert b"Bearer the-key" in server.asked[0]


def test_the_body_of_a_redirect_is_not_read(server: RawServer, settings: Settings) -> None:
    def endless(server: RawServer, send: Callable[[bytes], None]) -> None:
        send(head(f"Location: {server.origin}{PATH}", status="302 Found"))
        while not server.stopping.is_set():
            send(bytes(1 << 20))

    server.answers += [endless, fixed(head(LENGTH), AUDIO)]
    assert fetch(server, settings) == AUDIO
    # Only the bytes in the kernel's buffers.
    assert server.sent < 64 << 20


@pytest.mark.parametrize("lines", [[LENGTH], []], ids=["of a known length", "of none"])
def test_a_file_that_takes_too_long_in_all_ends(lines: list[str], server: RawServer, settings: Settings) -> None:
    server.answers.append(dripping(head(*lines), 0.02))
    began = time.monotonic()
    with pytest.raises(MediaNotReady, match="too slow"):
        fetch(server, settings, began + 0.3)
    assert time.monotonic() - began < 5


ALLOWED = {
    "https://PBX.example:8443/files/x": "https://PBX.example:8443/files/x",
    "https://media.example/a?b=c#d": "https://media.example/a?b=c#d",
    "http://pbx.example/a%2F|?b": "https://pbx.example/a%2F|?b",
    "http://pbx.example:80/a:80": "https://pbx.example/a:80",
    "http://pbx.example:8080/a": "https://pbx.example:8080/a",
}
OUTSIDE = " is not in MEDIA_HOSTS"
REFUSED = {
    "http://127.0.0.1/files/x": f"127.0.0.1{OUTSIDE}",
    "ftp://pbx.example/files/x": "not https",
    "https://pbx.example.other.example/x": f"pbx.example.other.example{OUTSIDE}",
    "https://pbx.example./x": f"pbx.example.{OUTSIDE}",
    "https://@pbx.example/x": "a user in the URL",
    "https://other.example\\.pbx.example/x": "other.example\\.pbx.example" + OUTSIDE,
    "https://2130706433/x": f"2130706433{OUTSIDE}",
    "https://[::1": "not a URL",
    "https://pbx.example:port/x": "not a URL",
    "https://pbx.example:70000/x": "not a URL",
}


def test_audio_of_an_allowed_host_is_asked_for_by_https_and_any_other_address_refused(settings: Settings) -> None:
    hosts = ("pbx.example", "media.example")
    remote = replace(settings, pbx_base_url="https://pbx.example/api/v2/", media_hosts=hosts)
    assert {url: allowed(url, remote) for url in ALLOWED} == ALLOWED
    for url, reason in REFUSED.items():
        for redirected_by in ("", "https://pbx.example/"):
            with pytest.raises(MediaError, match=f"{re.escape(reason)}$") as caught:
                allowed(url, remote, redirected_by=redirected_by)
            # A redirect to another host waits for the setting.
            waits = isinstance(caught.value, MediaNotReady)
            assert waits == (bool(redirected_by) and reason.endswith(OUTSIDE))
            assert waits or isinstance(caught.value, MediaRefused)


def test_plain_http_is_for_a_simulator_on_this_machine_only(settings: Settings) -> None:
    here = replace(settings, pbx_base_url="http://127.0.0.1:7000/api/v2/")
    elsewhere = replace(settings, pbx_base_url="https://pbx.example/api/v2/", media_hosts=("127.0.0.1",))
    url = "http://127.0.0.1:7000/files/x"
    assert allowed(url, here) == url
    assert allowed(url, replace(here, in_azure=True)) == allowed(url, elsewhere) == "https://127.0.0.1:7000/files/x"
