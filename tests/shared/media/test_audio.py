"""A file's kind comes from its bytes: real MP3, WAV and OGG are known, everything else is not audio."""

from __future__ import annotations

import io
import struct
import wave

import lameenc
import pytest

from shared.media.audio import HEAD_BYTES, MP3, OGG, WAV, Audio, sniff


def mp3(rate: int = 16_000, kbits: int = 32, channels: int = 1) -> bytes:
    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_bit_rate(kbits)
    encoder.set_in_sample_rate(rate)
    encoder.set_channels(channels)
    tone = struct.pack("<h", 900) * rate * channels
    return bytes(encoder.encode(tone) + encoder.flush())


def wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(bytes(1600))
    return file.getvalue()


RATES = [(8_000, 8), (16_000, 32), (22_050, 64), (44_100, 128), (48_000, 320)]


@pytest.mark.parametrize(("rate", "kbits"), RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_of_every_version_is_known_by_its_first_frame(rate: int, kbits: int, channels: int) -> None:
    assert sniff(mp3(rate, kbits, channels)[:HEAD_BYTES]) is MP3


KNOWN: dict[str, tuple[bytes, Audio]] = {
    "MP3 with an ID3 tag": (b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + mp3(), MP3),
    "WAV": (wav(), WAV),
    "OGG": (b"OggS\x00\x02" + bytes(20), OGG),
}


@pytest.mark.parametrize(("body", "kind"), KNOWN.values(), ids=KNOWN.keys())
def test_each_kind_is_known_from_the_head_alone(body: bytes, kind: Audio) -> None:
    assert sniff(body[:HEAD_BYTES]) is kind


UNKNOWN = {
    "nothing": b"",
    "a page": b"<!doctype html><html>",
    "a page after a byte order mark": b"\xef\xbb\xbf<html>",
    "JSON": b'{"status":"error"}',
    "text": b"Not ready yet, try later",
    "text in UTF-16": "Not ready".encode("utf-16"),
    "greeting in UTF-16": "Hello, wait a little".encode("utf-16"),
    "text that begins like a tag": b"ID3 tags are not supported",
    "packed with gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "a picture": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "RIFF of another kind": b"RIFF\x00\x00\x00\x00AVI LIST",
    "a reserved version": b"\xff\xeb\x90\x64",
    "a reserved layer": b"\xff\xf9\x90\x64",
    "a reserved bit rate": b"\xff\xfb\xf0\x64",
    "a reserved sampling rate": b"\xff\xfb\x9c\x64",
    "half a frame's header": b"\xff\xfb\x90",
    "set bits only": b"\xff" * 12,
    "zeros": bytes(12),
}


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_anything_else_is_not_audio(body: bytes) -> None:
    assert sniff(body[:HEAD_BYTES]) is None


def test_content_types_and_extensions_go_together() -> None:
    assert [(kind.content_type, kind.extension) for kind in (MP3, WAV, OGG)] == [
        ("audio/mpeg", "mp3"),
        ("audio/wav", "wav"),
        ("audio/ogg", "ogg"),
    ]
