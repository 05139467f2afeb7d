"""Audio that the simulator serves: real MP3 and WAV bytes of any size, made of one repeated block."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RATE = 16_000  # samples a second
_FRAME = 144  # bytes of an MP3 frame at 16 kHz and 32 kbit/s
_BLOCK = 1 << 20
_ID3_HEADER = 10
_WAV_HEADER = 44


def _tone(number: int) -> bytes:
    pitch = 220 * 2 ** (number % 24 / 12)
    return b"".join(
        struct.pack("<h", int(9_000 * math.sin(2 * math.pi * pitch * step / _RATE))) for step in range(_RATE)
    )


@lru_cache(maxsize=32)
def _mp3_block(number: int) -> bytes:
    import lameenc

    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_bit_rate(32)
    encoder.set_in_sample_rate(_RATE)
    encoder.set_channels(1)
    frames = bytes(encoder.encode(_tone(number)) + encoder.flush())
    return frames * max(1, _BLOCK // len(frames))


@lru_cache(maxsize=32)
def _wav_block(number: int) -> bytes:
    tone = _tone(number)
    return tone * max(1, _BLOCK // len(tone))


def _wav_header(size: int) -> bytes:
    data = size - _WAV_HEADER
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", size - 8, b"WAVE", b"fmt ", 16, 1, 1, _RATE, 2 * _RATE, 2, 16, b"data", data
    )


def _id3_padding(size: int) -> bytes:
    """Return an empty ID3v2 tag of exactly `size` bytes."""
    body = size - _ID3_HEADER
    syncsafe = bytes((body >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + syncsafe + bytes(body)


@dataclass
class AudioFile:
    """
    One file under `/files/`; every field can be changed while it is served.

    It is late until `ready_tries` requests were refused with `late_status` (200 is an empty body). `fault`: `html`,
    `empty`, `truncated`, `longer`, `reset` or `redirect` (to `location`; by default to the audio itself, with a query).
    """

    token: str
    kind: str = "mp3"  # mp3, wav or raw
    size: int = 36_000
    tone: int = 0
    body: bytes = b""  # with kind raw
    content_type: str = ""
    ready_tries: int = 0
    late_status: int = 404
    fault: str = ""
    location: str = ""
    gone: bool = False
    asked: int = 0

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes of the file in order, `length` of them."""
        head, block = self._parts()
        left = self.length - len(head)
        if head:
            yield memoryview(head)
        view = memoryview(block)
        while left > 0:
            yield view[:left]
            left -= min(left, len(view))

    @property
    def length(self) -> int:
        """Bytes of the whole file: `size`, or the least that its format can have."""
        if self.kind == "raw":
            return len(self.body)
        if self.kind == "wav":
            return max(self.size + self.size % 2, _WAV_HEADER + 2)
        return max(self.size, _FRAME + _ID3_HEADER) if self.size % _FRAME else max(self.size, _FRAME)

    @property
    def media_type(self) -> str:
        """The Content-Type that goes with the file."""
        return self.content_type or {"mp3": "audio/mpeg", "wav": "audio/wav"}.get(self.kind, "application/octet-stream")

    def sha256(self) -> str:
        """Return the hex digest of the whole file."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()

    def _parts(self) -> tuple[bytes, bytes]:
        if self.kind == "raw":
            return self.body, b""
        if self.kind == "wav":
            return _wav_header(self.length), _wav_block(self.tone)
        rest = self.length % _FRAME
        if rest and rest < _ID3_HEADER:
            rest += _FRAME
        return _id3_padding(rest) if rest else b"", _mp3_block(self.tone)


def token_for(resource: str, item_id: int) -> str:
    """Return the base64 text of an item's audio link."""
    return base64.urlsafe_b64encode(f"{resource}:{item_id}:9c1f".encode()).decode()


def token_owner(token: str) -> tuple[str, int] | None:
    """Return the resource and id that a link's base64 text names, or None."""
    try:
        resource, number, _ = base64.urlsafe_b64decode(token).decode().split(":")
        return resource, int(number)
    except ValueError:
        return None
