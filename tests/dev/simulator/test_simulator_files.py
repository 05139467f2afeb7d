"""Audio of any size, late or spoilt."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import requests


@pytest.fixture
def recording(pbx: Any) -> int:
    """A recording that exists."""
    number: int = pbx.call("27771153", at=-600, recorded=True).recording_id
    return number


def fetch(pbx: Any, recording: int, **headers: str) -> requests.Response:
    url = pbx.view("call_records", pbx.item("call_records", recording))["recordingURL"]
    return requests.get(url, headers=headers, timeout=10)


@pytest.mark.parametrize("size", [144, 290, 36_001, 1_000_003])
def test_mp3_has_exactly_the_size_asked_for(pbx: Any, recording: int, size: int) -> None:
    audio = pbx.recording_file(recording)
    audio.size = size
    answer = fetch(pbx, recording)
    assert len(answer.content) == size == int(answer.headers["Content-Length"])
    assert answer.headers["Content-Type"] == "audio/mpeg"
    assert answer.content[:2] == b"\xff\xf3" or answer.content[:3] == b"ID3"
    assert hashlib.sha256(answer.content).hexdigest() == audio.sha256()


def test_a_late_file_comes_after_so_many_tries(pbx: Any, recording: int) -> None:
    audio = pbx.recording_file(recording)
    audio.ready_tries, audio.late_status = 2, 425
    assert [fetch(pbx, recording).status_code for _ in range(3)] == [425, 425, 200]


@pytest.mark.parametrize("fault", ["truncated", "longer", "reset"])
def test_a_body_that_breaks_off(pbx: Any, recording: int, fault: str) -> None:
    pbx.recording_file(recording).fault = fault
    with pytest.raises(requests.RequestException):
        fetch(pbx, recording)


def test_html_with_200_and_a_redirect(pbx: Any, recording: int) -> None:
    audio = pbx.recording_file(recording)
    audio.fault = "html"
    assert fetch(pbx, recording).headers["Content-Type"].startswith("text/html")
    audio.fault, audio.location = "redirect", f"{pbx.url}/elsewhere"
    answer = fetch(pbx, recording)
    assert (answer.status_code, answer.history[0].status_code) == (404, 302)
    audio.location = ""
    assert hashlib.sha256(fetch(pbx, recording).content).hexdigest() == audio.sha256()


def test_a_file_can_need_the_key(pbx: Any, recording: int) -> None:
    pbx.options.file_needs_key = True
    assert fetch(pbx, recording).status_code == 403
    assert fetch(pbx, recording, Authorization="Bearer test-key").status_code == 200
    assert [row.authorized for row in pbx.requests] == [False, True]
