"""How much audio a file's container declares, and how much of it is there."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Bytes of the file's end that are looked at.
TAIL_BYTES = 64 * 1024
_NO_SIZE = 0xFFFFFFFF
# What recorders write that do not know the length yet: this or more.
_ENDLESS = 0x7FFF0000
# How far behind a tag the first frame is looked for.
_SEARCHED = 64 * 1024
# Bit rates of layer III in kbit/s, for MPEG 1 and for MPEG 2 and 2.5, and sampling rates of MPEG 1.
_KBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_HERTZ = (44_100, 48_000, 32_000)


@dataclass(frozen=True, slots=True)
class Extent:
    """
    What a container says of its file.

    `start` is where audio begins; `end` how many bytes the file has at least when it is whole, None where the
    container does not say (a stream of unknown length); `seconds` how long what is there plays, None if unknown.
    """

    start: int = 0
    end: int | None = None
    seconds: float | None = None


def extent(content_type: str, head: bytes, size: int, tail: bytes) -> Extent:
    """
    The extent of a file of `size` bytes of which the first and the last are given.

    A kind of audio that is not known here says nothing, and any of it is whole.
    """
    examine = _EXAMINERS.get(content_type)
    try:
        return examine(head, size, tail) if examine else Extent()
    except (struct.error, IndexError):
        # A header that breaks off: the audio behind it is not there.
        return Extent(start=size)


def is_whole(found: Extent, size: int) -> bool:
    """Whether there is audio, and as much of it as the container declares."""
    return size > found.start and (found.end is None or size >= found.end)


def _wav(head: bytes, size: int, tail: bytes) -> Extent:
    at, rate = 12, 0
    large: int | None = None
    while True:
        name, length = struct.unpack_from("<4sI", head, at)
        at += 8
        if name == b"ds64":
            large = int(struct.unpack_from("<Q", head, at + 8)[0])
        elif name == b"fmt ":
            (rate,) = struct.unpack_from("<I", head, at + 8)
        elif name == b"data":
            break
        at += length + length % 2
    # Recorders that do not know the length yet write none, or the greatest.
    declared: int | None = large if length == _NO_SIZE else length or None
    if declared is not None and declared >= _ENDLESS and large is None:
        declared = None
    there = size - at if declared is None else min(size - at, declared)
    return Extent(at, None if declared is None else at + declared, there / rate if rate else None)


def _mp3(head: bytes, size: int, tail: bytes) -> Extent:
    start = 0
    while head[start : start + 3] == b"ID3":
        low = head[start + 6 : start + 10]
        start += 10 + (low[0] << 21 | low[1] << 14 | low[2] << 7 | low[3])
    if start >= len(head):
        # The tag is longer than what is known of the file.
        return Extent(start)
    at = _sync(head, start)
    frame = None if at is None else _mpeg_frame(head, at)
    if at is None or frame is None:
        return Extent(start)
    return _xing(head, size, at, frame) or Extent(at, at + frame.size, max(0, size - at) * 8 / frame.bits)


def _xing(head: bytes, size: int, at: int, frame: _Frame) -> Extent | None:
    """What a first frame that describes the others declares, where there is one."""
    marks = (found for name in (b"Xing", b"Info") if (found := head.find(name, at, at + frame.size)) > 0)
    mark = next(marks, None)
    if mark is None:
        return None
    flags, one, two = struct.unpack_from(">III", head, mark + 4)
    frames = one if flags & 1 else 0
    length = (two if flags & 1 else one) if flags & 2 else 0
    if not length:
        return None
    seconds = frames * frame.samples / frame.hertz * min(1.0, (size - at) / length) if frames else None
    # A frame less is no loss: encoders count the first one differently.
    return Extent(at + frame.size, at + length - frame.size, seconds)


def _sync(head: bytes, start: int) -> int | None:
    """Where the first frame begins, at or behind `start`."""
    for at in range(start, min(start + _SEARCHED, len(head) - 3)):
        if head[at] == 0xFF and head[at + 1] & 0xE0 == 0xE0:
            return at
    return None


@dataclass(frozen=True, slots=True)
class _Frame:
    """An MPEG frame: bits and samples a second, samples in it, and its bytes."""

    bits: int
    hertz: int
    samples: int
    size: int


def _mpeg_frame(head: bytes, at: int) -> _Frame | None:
    """The frame that begins here; None where its header is none, or leaves the bit rate free."""
    second, third = head[at + 1], head[at + 2]
    version, bitrate, sampling, padding = second >> 3 & 3, third >> 4, third >> 2 & 3, third >> 1 & 1
    if bitrate in (0, 15) or sampling == 3:
        return None
    first = version == 3  # MPEG 1
    bits = _KBITS[not first][bitrate] * 1000
    hertz = _HERTZ[sampling] // {3: 1, 2: 2}.get(version, 4)
    return _Frame(bits, hertz, 1152 if first else 576, (144 if first else 72) * bits // hertz + padding)


def _ogg(head: bytes, size: int, tail: bytes) -> Extent:
    """Whole pages; the first ones hold no audio: their position is 0 or none."""
    at, start = 0, None
    while start is None and at + 27 <= len(head) and head[at : at + 4] == b"OggS":
        position, segments = struct.unpack_from("<q", head, at + 6)[0], head[at + 26]
        length = 27 + segments + sum(head[at + 27 : at + 27 + segments])
        start = at if position > 0 else None
        at += length
    last = tail.rfind(b"OggS")
    end = None
    if last >= 0 and last + 27 <= len(tail):
        segments = tail[last + 26]
        end = size - len(tail) + last + 27 + segments + sum(tail[last + 27 : last + 27 + segments])
    return Extent(size if start is None and at >= size else start or 0, end)


def _mp4(head: bytes, size: int, tail: bytes) -> Extent:
    """Boxes, each with its size; the index (moov) may stand behind the audio (mdat)."""
    at, audio, index = 0, None, False
    while at + 8 <= len(head):
        length, name = struct.unpack_from(">I4s", head, at)
        if length == 1:
            (length,) = struct.unpack_from(">Q", head, at + 8)
        index |= name == b"moov"
        audio = at + 8 if name in (b"mdat", b"moof") and audio is None else audio
        if length < 8:
            # Up to the end of the file, wherever that is.
            return Extent(size if audio is None else audio, at + 9)
        at += length
    index |= b"moov" in tail
    seen = at >= size or len(head) >= size
    start = audio if audio is not None else (size if seen else 0)
    return Extent(start, at if index else max(at, size + 1))


def _webm(head: bytes, size: int, tail: bytes) -> Extent:
    """An EBML header and a segment, whose size may be unknown."""
    header, begin = _vint(head, 4)
    at = begin + (header or 0)
    segment, begin = _vint(head, at + 4)
    cluster = head.find(b"\x1f\x43\xb6\x75", begin)
    start = cluster if cluster >= 0 else (size if size <= len(head) else 0)
    return Extent(start, None if segment is None else begin + segment)


def _vint(head: bytes, at: int) -> tuple[int | None, int]:
    """A length of EBML and where it ends; None for one that is not known."""
    width = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def _amr(head: bytes, size: int, tail: bytes) -> Extent:
    return Extent(9 if head.startswith(b"#!AMR-WB\n") else 6)


def _flac(head: bytes, size: int, tail: bytes) -> Extent:
    at, last = 4, False
    while not last and at < len(head):
        last = bool(head[at] & 0x80)
        at += 4 + int.from_bytes(head[at + 1 : at + 4], "big")
    return Extent(at)


def _aiff(head: bytes, size: int, tail: bytes) -> Extent:
    (length,) = struct.unpack_from(">I", head, 4)
    sound = head.find(b"SSND")
    return Extent(size if sound < 0 and size <= len(head) else sound + 16, length + 8 if length else None)


_EXAMINERS: Mapping[str, Callable[[bytes, int, bytes], Extent]] = {
    "audio/wav": _wav,
    "audio/mpeg": _mp3,
    "audio/ogg": _ogg,
    "audio/mp4": _mp4,
    "audio/webm": _webm,
    "audio/amr": _amr,
    "audio/flac": _flac,
    "audio/aiff": _aiff,
}
