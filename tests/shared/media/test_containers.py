"""Audio is whole when there is some, and as much of it as its container declares."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.media.audio import HEAD_BYTES, kind_of
from shared.media.containers import TAIL_BYTES, extent, is_whole

FILES = Path(__file__).parents[2] / "fixtures" / "audio"
NAMES = sorted(path.name for path in FILES.iterdir())
# What declares nothing of its length is whole wherever it ends.
ENDLESS = {"frames.mp3", "streamed.wav", "streamed.webm", "tone.aac"}
HEAD = 256 * 1024


def whole(body: bytes) -> bool:
    kind = kind_of(body[:HEAD_BYTES], "audio/mpeg").content_type
    return is_whole(extent(kind, body[:HEAD], len(body), body[-TAIL_BYTES:]), len(body))


@pytest.mark.parametrize("name", NAMES)
def test_a_real_file_is_whole(name: str) -> None:
    assert whole((FILES / name).read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_breaks_off_is_not_whole_where_its_container_says_so(name: str) -> None:
    body = (FILES / name).read_bytes()
    assert whole(body[: len(body) * 3 // 4]) == (name in ENDLESS | {"tone.flac"})


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("frames.mp3", "tone.aac")])
def test_a_header_alone_is_no_audio(name: str) -> None:
    body = (FILES / name).read_bytes()
    kind = kind_of(body[:HEAD_BYTES], "").content_type
    start = extent(kind, body[:HEAD], len(body), body[-TAIL_BYTES:]).start
    assert 0 < start < len(body)
    for length in (start, start - 1, 44):
        assert not whole(body[: min(length, start)])


def wav(declared: int, audio: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    rest = b"".join(name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for name, body in chunks)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 7, 1, 8000, 8000, 1, 8)
    return b"RIFF" + struct.pack("<I", 0) + b"WAVE" + form + rest + struct.pack("<4sI", b"data", declared) + audio


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (wav(0, b""), False),
        (wav(8000, b""), False),
        (wav(8000, bytes(7999)), False),
        (wav(8000, bytes(8000)), True),
        (wav(8000, bytes(8000) + b"LIST\x04\0\0\0abcd"), True),
        (wav(0, bytes(100)), True),
        (wav(0xFFFFFFFF, bytes(100)), True),
        (wav(0x7FFFFFFF, bytes(100)), True),
        (wav(0xFFFFFFFF, b""), False),
        (wav(160, bytes(160), (b"LIST", b"odd")), True),
        (wav(160, bytes(150), (b"LIST", b"odd")), False),
        (wav(160, bytes(160))[:30], False),
    ],
)
def test_wav_as_recorders_write_it(body: bytes, expected: bool) -> None:
    assert whole(body) is expected


def test_how_long_it_plays() -> None:
    body = wav(16_000, bytes(16_000))
    assert extent("audio/wav", body, len(body), body).seconds == 2.0
    half = body[:-8000]
    assert extent("audio/wav", half, len(half), half).seconds == 1.0
    for name in ("frames.mp3", "xing.mp3"):
        body = (FILES / name).read_bytes()
        assert extent("audio/mpeg", body, len(body), body).seconds == pytest.approx(1.1, abs=0.1)


def test_a_tag_longer_than_what_is_looked_at_hides_nothing() -> None:
    size = 300_000
    tag = b"ID3\x04\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + bytes(size)
    frames = (FILES / "frames.mp3").read_bytes()
    assert whole(tag + frames)
    assert not whole(tag)
    assert not whole(tag[:200_000])


@given(body=st.binary(max_size=400), name=st.sampled_from(NAMES), cut=st.integers(0, 4000))
def test_no_bytes_break_it(body: bytes, name: str, cut: int) -> None:
    spoilt = (FILES / name).read_bytes()[:cut] + body
    kind = kind_of((FILES / name).read_bytes()[:HEAD_BYTES], "").content_type
    found = extent(kind, spoilt[:HEAD], len(spoilt), spoilt[-TAIL_BYTES:])
    assert found.start >= 0
    assert is_whole(found, len(spoilt)) in (True, False)
    assert not is_whole(extent(kind, b"", 0, b""), 0)
