"""What HTTP clients share: nothing of the machine is used, no drip outlasts its time, and Retry-After is seconds."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from urllib3 import HTTPResponse

from dev.listener import Listener
from shared.http_clients import LONGEST_WAIT, plain_session, read_part, retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener(lambda received: (200, {"Set-Cookie": "a=b"})) as listener:
        yield listener


def test_no_proxy_and_no_cookie_is_used(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with plain_session(hosts=1, connections=1) as session:
        for _ in range(2):
            assert session.post(listener.url, data=b"x", timeout=5).status_code == 200
    assert not any("cookie" in received.headers for received in listener.received)


def test_a_part_that_comes_too_late_is_not_taken() -> None:
    answer = HTTPResponse(io.BytesIO(b"whole"), preload_content=False)
    assert read_part(answer, 100, time.monotonic() + 60) == b"whole"
    with pytest.raises(TimeoutError):
        read_part(HTTPResponse(io.BytesIO(b"late"), preload_content=False), 100, time.monotonic() - 1)


def in_seconds(seconds: int, *, zone: str = "GMT") -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True).replace("GMT", zone).strip()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((None, None), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("٧", None)),
        *(("0", 0), ("7", 7), (" 7 ", 7), ("9" * 40, LONGEST_WAIT)),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0),
        ("Thu, 01 Jan 2970 00:00:10 GMT", LONGEST_WAIT),
        ("Thu, 99 Jan 1970 00:00:10 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: int | None) -> None:
    assert retry_after(text) == seconds


@pytest.mark.parametrize("zone", ["GMT", "", "-0000"])
def test_a_date_is_so_many_seconds_away(zone: str) -> None:
    assert retry_after(in_seconds(600, zone=zone)) in (599, 600)
