"""Kinds of audio come from bytes, then from the content type; text is not audio, and neither are headers alone."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MediaNotReady
from shared.media.audio import Excerpt, Sound, kind_of, sound_of

FILES = Path(__file__).parents[2] / "fixtures" / "audio"
BODIES = {path.name: path.read_bytes() for path in sorted(FILES.iterdir())}
# The content type, the extension, and the seconds that each file plays.
KINDS = {
    "frames.mp3": ("audio/mpeg", "mp3", 1.15),
    "loud-start.mp3": ("audio/mpeg", "mp3", 20.1),
    "index-last.m4a": ("audio/mp4", "m4a", 1.0),
    "opus.ogg": ("audio/ogg", "ogg", 1.0),
    "streamed.aiff": ("audio/aiff", "aiff", None),
    "streamed.wav": ("audio/wav", "wav", 1.0),
    "tone.aac": ("audio/aac", "aac", None),
    "tone.aiff": ("audio/aiff", "aiff", None),
    "tone.flac": ("audio/flac", "flac", 1.0),
    "tone.wav": ("audio/wav", "wav", 1.0),
    "tone.webm": ("audio/webm", "webm", None),
    "tone.wma": ("audio/x-ms-wma", "wma", 0.51),
    "vorbis.ogg": ("audio/ogg", "ogg", 1.0),
}


def sound(body: bytes, label: str = "", block: int = 1 << 20) -> Sound:
    file = Excerpt()
    for begin in range(0, len(body), block):
        file.add(body[begin : begin + block])
    return sound_of(kind_of(body, label)[1], file)


def wave(seconds: int, *, declared: int | None = None, before: bytes = b"") -> bytes:
    """A WAV of 8,000 µ-law samples a second, with other chunks `before` its sound."""
    size = seconds * 8000
    data = b"data" + struct.pack("<I", size if declared is None else declared) + b"\x7f" * size
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 7, 1, 8000, 8000, 1, 8) + before + data
    total = 4 + len(chunks) if declared is None else declared
    return b"RIFF" + struct.pack("<I", total) + b"WAVE" + chunks


@pytest.mark.parametrize("name", BODIES)
def test_real_audio_is_known_by_its_bytes_and_has_sound(name: str) -> None:
    body = BODIES[name]
    for label in ("", "application/octet-stream", "text/plain", "audio/mpeg", "nonsense"):
        found, said = kind_of(body, label), sound(body, label)
        assert found == KINDS[name][:2]
        assert said.there
        assert said.declared in (None, len(body))
        assert said.seconds == (KINDS[name][2] and pytest.approx(KINDS[name][2], rel=0.05))


@pytest.mark.parametrize(
    ("head", "label", "content_type", "extension"),
    [
        (b"\xff\xfb\x90\x64" + bytes(20), "", "audio/mpeg", "mp3"),
        (b"\xff\xe3\x18\xc4" + bytes(20), "", "audio/mpeg", "mp3"),
        (bytes([0xD5, 0x55] * 40), "audio/basic", "audio/basic", "au"),
        (bytes([0xD5, 0x55] * 40), "audio/x-gsm; rate=8000", "audio/x-gsm", "gsm"),
        (bytes([0xD5, 0x55] * 40), "", "application/octet-stream", "bin"),
        (bytes(100), "Audio/X-WAV", "audio/wav", "wav"),
        (bytes(100), "audio/mp3", "audio/mpeg", "mp3"),
        (b"\x00\x01", "audio/../../etc", "audio/../../etc", "bin"),
        (b"\x1f\x8b\x08\0" + bytes(50), "text/plain", "application/gzip", "gz"),
    ],
)
def test_anything_but_text_is_kept_under_its_type(head: bytes, label: str, content_type: str, extension: str) -> None:
    assert kind_of(head, label) == (content_type, extension)


TEXTS = [
    *(b"<!doctype html><html>", b"\xef\xbb\xbf <html>", "<html>".encode("utf-16"), "<html>ķ".encode("cp1257")),
    *(b'<?xml version="1.0"?><error/>', b'{"status":"error"}', b" [ {", '{"message": "ķ"}'.encode("cp1257")),
    *(b"Not ready yet", "Vēl nav".encode(), "wait".encode("utf-16"), b"ID3 tags", b"BMS error: none"),
]


@pytest.mark.parametrize("head", TEXTS)
def test_no_text_is_audio_whatever_its_label(head: bytes) -> None:
    for label in ("", "audio/mpeg", "audio/x-own", "text/html"):
        with pytest.raises(MediaNotReady, match=r"^text instead of audio$"):
            kind_of(head, label)


HEADERS = {
    "a WAV of none": wave(0),
    "a WAV of an unknown size": wave(0, declared=0),
    "half a header of WAV": BODIES["tone.wav"][:40],
    "a header of AIFF": BODIES["tone.aiff"][:54],
    "tags": b"ID3\x04\0\0\0\0\x07\x76" + bytes(1014),
    "tags with a picture": b"ID3\x04\0\0\0\x60\0\0" + bytes(0x60 << 14),
    "a header of MP4": BODIES["index-last.m4a"][:40],
    "an MP4 without its index": BODIES["index-last.m4a"][:1000],
    "a header of Ogg": BODIES["opus.ogg"][:120],
    "a header of WebM": BODIES["tone.webm"][:200],
    "a header of FLAC": BODIES["tone.flac"][:42],
    "a header of WMA": BODIES["tone.wma"][:300],
}


@pytest.mark.parametrize("body", HEADERS.values(), ids=HEADERS)
def test_headers_and_tags_alone_have_no_sound(body: bytes) -> None:
    assert not sound(body).there


def test_zeros_called_mp3_have_no_sound_and_padding_before_the_first_frame_takes_none_away() -> None:
    assert not sound(bytes(6000), "audio/mpeg").there
    assert sound(bytes(6000) + BODIES["loud-start.mp3"], "audio/mpeg").there
    assert sound(wave(2, before=b"JUNK" + struct.pack("<I", 5000) + bytes(5000))) == Sound(True, 21_052, 2.0)


@pytest.mark.parametrize("name", ["tone.wav", "tone.aiff"])
def test_a_wav_and_an_aiff_declare_their_size(name: str) -> None:
    body = BODIES[name]
    assert sound(body[:-1]).declared == len(body) == sound(body + b"appended").declared


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_size_that_a_recorder_did_not_know_declares_nothing(size: int) -> None:
    assert sound(wave(2, declared=size)) == Sound(True, None, 2.0)


def test_an_mp3_of_a_constant_rate_has_its_length_from_its_size_and_is_not_read_whole() -> None:
    frame = b"\xff\xf3\x40\xc4" + bytes(92)  # 32 kbit/s at 16 kHz, 24 ms
    body = frame * 200_000
    began = time.process_time()
    said = sound(body)
    assert (said.there, said.declared) == (True, None)
    assert said.seconds == pytest.approx(len(body) / 4000, rel=0.01)
    assert time.process_time() - began < 1


def test_the_last_page_of_a_long_ogg_has_its_length() -> None:
    body = BODIES["opus.ogg"]
    last = body.rindex(b"OggS")
    silence = (
        b"OggS" + body[last + 4 : last + 5] + b"\0" + body[last + 6 : last + 26] + b"\x01\xff" + bytes(255)
    ) * 9000
    assert len(silence) > 2 << 20
    assert sound(body[:last] + silence + body[last:]).seconds == pytest.approx(1, rel=0.1)


@given(body=st.binary(min_size=1, max_size=4096), label=st.sampled_from(["", "audio/mpeg", "audio/wav", "audio/ogg"]))
def test_any_bytes_are_judged_or_refused_in_words(body: bytes, label: str) -> None:
    try:
        _, extension = kind_of(body, label)
    except MediaNotReady as refused:
        assert str(refused).endswith(" instead of audio")
    else:
        assert extension.isalnum()
        assert sound(body, label).declared is None or extension in ("wav", "aiff")


@pytest.mark.parametrize("name", BODIES)
def test_a_damaged_file_is_judged_all_the_same(name: str) -> None:
    body = BODIES[name]
    for place in range(0, min(len(body), 600), 7):
        for byte in (0, 0xFF):
            sound(body[:place] + bytes([byte] * 4) + body[place + 4 :], "audio/mpeg")
