"""Audio that is nothing but frames: MPEG audio of layers I to III, AAC in ADTS, and AMR."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bit rates in kbit/s of MPEG 1, layers I, II and III, and of MPEG 2 and 2.5, layer I and the others.
_KBITS = {
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = (44_100, 48_000, 32_000)
_AAC_HERTZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
# The longest header: that of ADTS.
_HEADER = 7
# So many bytes of a file are gone through, and then a part in sixteen: longer ones play long enough to be estimated.
_WALKED, _SKIPPED = 1 << 20, 15 * 64 * 1024
# Where no file goes on.
NEVER = 1 << 62


@dataclass(slots=True)
class Frames:
    """
    The frames of a file, met one after the other.

    They are looked for from `start` on; `first` is where the first one begins, None as long as there is none. `end` is
    how many bytes a first frame says that the file has, None where it does not say.
    """

    start: int | None = None
    first: int | None = None
    end: int | None = None
    # Seconds of all parts, those skipped behind them included; those of a byte of the last part; bytes gone through;
    # and where the last skipped part ends.
    _seconds: float = 0
    _rate: float = 0
    _walked: int = 0
    _next: int = 0

    def seconds(self, size: int) -> float | None:
        """How long the frames of a file of so many bytes play, by those that were met; None where none was."""
        return self._seconds - max(0, self._next - size) * self._rate if self._walked else None

    def follow(self, data: bytes, at: int, base: int, *, final: bool) -> int:
        """
        Go through the frames from `at` on, as far as they are known whole; returns where to go on.

        `base` is where `data` begins in its file. What is no frame is passed over; behind it, a frame counts where
        another one follows. A `final` look knows that nothing comes behind `data`. Of a long file, parts are skipped.
        """
        began = at
        if self._next:
            at = next_frame(data, at, final=final)
        if self.first is None:
            at = self._begin(data, at, base, final=final)
        if self.first is None or at >= NEVER:
            return at
        met: Counter[int] = Counter()
        at = self._walk(data, at, met, final=final)
        if at > began:
            seconds = sum(number * _SECONDS[kind] for kind, number in met.items())
            self._rate = seconds / (at - began)
            self._seconds += seconds
            self._walked += at - began
        if self._walked < _WALKED:
            return at
        self._seconds += _SKIPPED * self._rate
        self._next = base + at + _SKIPPED
        return at + _SKIPPED

    def _walk(self, data: bytes, at: int, met: Counter[int], *, final: bool) -> int:
        sizes, last = _SIZES, len(data) - _HEADER
        while at <= last:
            kind = data[at + 1] << 8 | data[at + 2]
            size = sizes.get(kind) if data[at] == 0xFF else None
            if size == 0:
                size = _adts_size(data, at)
            if size:
                met[kind] += 1
                at += size
            else:
                at = next_frame(data, at + 1, final=final)
        return at

    def _begin(self, data: bytes, at: int, base: int, *, final: bool) -> int:
        if self.start is None:
            self.start = base + at
            if _is_free(data, at):
                self.first = base + at
                return NEVER
        size = _size(data, at) if base + at == self.start else 0
        if size and at + size > len(data):
            return len(data) if final else at
        if not size:
            at = next_frame(data, at, final=final)
            size = _size(data, at)
            if at + size + _HEADER > len(data):
                # Among other bytes, what no other frame follows may be chance.
                return len(data) if final else at
        length = _declared(data[at : at + size])
        if length is None:
            self.first = base + at
            return at
        # A frame less is no loss: encoders count the first one differently.
        self.first, self.end = base + at + size, base + at + length - size if length else None
        return at + size


@dataclass(slots=True)
class AmrFrames(Frames):
    """The frames of an AMR file; `sizes` are their bytes by type, header included. What is no frame ends them."""

    sizes: tuple[int, ...] = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)
    _met: int = 0

    def seconds(self, size: int) -> float | None:
        """How long the frames that were met play; a file of any size is gone through."""
        return self._met * 0.02

    def follow(self, data: bytes, at: int, base: int, *, final: bool) -> int:
        """Go through the frames from `at` on; returns where to go on."""
        if self.first is None and at < len(data):
            self.first = base + at
        while at < len(data):
            if not (size := self.sizes[data[at] >> 3 & 15]):
                return NEVER
            self._met += 1
            at += size
        return at


WideAmrFrames = partial(AmrFrames, sizes=(18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1))


def tag_size(head: bytes) -> int:
    """Bytes of the ID3 tag that stands here; 0 where none does: its version and size are small numbers."""
    if head[:3] != b"ID3" or len(head) < 10 or head[3] not in (2, 3, 4) or max(head[6:10]) > 0x7F:
        return 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])


def begins(data: bytes) -> bool:
    """Whether a file begins with a frame; one that is not of layer III or ADTS only where another one follows."""
    layer = data[1] & 6 if len(data) > 1 else 0
    size = _size(data, 0)
    return size > 0 and (layer in (0, 2) or (next_frame(data, 0, final=True) == 0 and size + _HEADER <= len(data)))


def next_frame(data: bytes, at: int, *, final: bool) -> int:
    """Where the next frame begins; where that cannot be seen yet, from where on to look again."""
    while (at := data.find(0xFF, at)) >= 0:
        size = _size(data, at)
        then = at + size
        if size and then + _HEADER <= len(data):
            # The same version, layer and sampling rate.
            same = (data[then + 1] ^ data[at + 1]) & 0xFE == 0 and (data[then + 2] ^ data[at + 2]) & 0x0C == 0
            if data[then] == 0xFF and same and _size(data, then):
                return at
        elif (size or at + _HEADER > len(data)) and (size or not final):
            return at
        at += 1
    return len(data)


def _size(data: bytes, at: int) -> int:
    """Bytes of the frame whose header stands here; 0 where it is none."""
    if at + 4 > len(data) or data[at] != 0xFF:
        return 0
    size = _SIZES.get(data[at + 1] << 8 | data[at + 2], -1)
    return max(size or _adts_size(data, at), 0)


def _is_free(data: bytes, at: int) -> bool:
    """Whether a frame of MPEG audio begins here whose bit rate is free, so that it does not say its bytes."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 2] & 0xF0:
        return False
    return (data[at + 1] << 8 | data[at + 2] | 0x10) in _SIZES and data[at + 1] & 6 != 0


def _adts_size(data: bytes, at: int) -> int:
    if at + _HEADER > len(data):
        return 0
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    return size if size > _HEADER else 0


def _declared(frame: bytes) -> int | None:
    """Bytes of all frames, where the first one describes the others; 0 where it does not say how many."""
    for name in (b"Xing", b"Info"):
        mark = frame.find(name)
        if mark > 0 and mark + 16 <= len(frame):
            flags, one, two = struct.unpack_from(">III", frame, mark + 4)
            return int(two if flags & 1 else one) if flags & 2 else 0
    mark = frame.find(b"VBRI")
    return int(struct.unpack_from(">I", frame, mark + 10)[0]) if 0 < mark <= len(frame) - 14 else None


def _mpeg() -> tuple[Mapping[int, int], Mapping[int, float]]:
    """Bytes and seconds of each frame by the second and third byte of its header; ADTS says its bytes itself: 0."""
    sizes, seconds = {}, {}
    for kind in range(0xE000, 0x10000):
        version, layer = kind >> 11 & 3, kind >> 9 & 3
        bitrate, sampling, padding = kind >> 4 & 15, kind >> 2 & 3, kind >> 1 & 1
        if layer == 0:
            rate = kind >> 2 & 15
            if kind >> 12 == 0xF and rate < len(_AAC_HERTZ):
                sizes[kind], seconds[kind] = 0, 1024 / _AAC_HERTZ[rate]
            continue
        if version == 1 or bitrate in (0, 15) or sampling == 3:
            continue
        first = version == 3
        hertz = _HERTZ[sampling] // {3: 1, 2: 2}.get(version, 4)
        bits = _KBITS[first, layer if first or layer == 3 else 2][bitrate - 1] * 1000
        samples = 384 if layer == 3 else 576 if layer == 1 and not first else 1152
        unit = 4 if layer == 3 else 1
        sizes[kind] = (samples // 8 // unit * bits // hertz + padding) * unit
        seconds[kind] = samples / hertz
    return sizes, seconds


_SIZES, _SECONDS = _mpeg()
