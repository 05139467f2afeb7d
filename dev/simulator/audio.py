"""Audio files of the simulator: MP3 of any size, made of a repeated block."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_RATE = 16_000  # samples a second
_FRAME = 144  # bytes of an MP3 frame at 16 kHz and 32 kbit/s
_BLOCK = 1 << 20
_ID3_HEADER = 10


@lru_cache(maxsize=32)
def _block(tone: int) -> bytes:
    import lameenc

    pitch = 220 * 2 ** (tone % 24 / 12)
    steps = (int(9_000 * math.sin(2 * math.pi * pitch * step / _RATE)) for step in range(_RATE))
    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_bit_rate(32)
    encoder.set_in_sample_rate(_RATE)
    encoder.set_channels(1)
    frames = bytes(encoder.encode(struct.pack(f"<{_RATE}h", *steps)) + encoder.flush())
    return frames * max(1, _BLOCK // len(frames))


def _id3_padding(size: int) -> bytes:
    """Return an empty ID3v2 tag of exactly `size` bytes."""
    body = size - _ID3_HEADER
    syncsafe = bytes((body >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + syncsafe + bytes(body)


@dataclass
class AudioFile:
    """
    A file below `/files/`; every field can be changed at any time.

    It is MP3 of `size` bytes unless it has a `body`. The first `ready_tries` requests get `late_status`; 200 is an
    empty body. `fault`: `html`, `empty`, `truncated`, `longer`, `reset` or `redirect` (to `location`, or without one to
    the same file with a query).
    """

    token: str
    size: int = 36_000
    tone: int = 0
    body: bytes | None = None
    content_type: str = "audio/mpeg"
    ready_tries: int = 0
    late_status: int = 404
    fault: str = ""
    location: str = ""
    gone: bool = False
    asked: int = 0

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes of the file in order, `length` of them."""
        if self.body is not None:
            yield memoryview(self.body)
            return
        padding = self.length % _FRAME
        if padding:
            padding += _FRAME if padding < _ID3_HEADER else 0
            yield memoryview(_id3_padding(padding))
        left, block = self.length - padding, memoryview(_block(self.tone))
        while left > 0:
            yield block[:left]
            left -= min(left, len(block))

    @property
    def length(self) -> int:
        """Bytes of the whole file: `size`, or the least possible for MP3."""
        if self.body is not None:
            return len(self.body)
        return max(self.size, _FRAME + _ID3_HEADER if self.size % _FRAME else _FRAME)

    def sha256(self) -> str:
        """Return the hex digest of the whole file."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


def token_for(resource: str, item_id: int) -> str:
    """Return the token in the link to an item's audio."""
    return base64.urlsafe_b64encode(f"{resource}:{item_id}:9c1f".encode()).decode()
