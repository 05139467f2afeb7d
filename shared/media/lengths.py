"""How long audio plays, as the elements of containers say it; each is given from its header on, and where it begins."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Bytes of a sample by the encoding of an AU file.
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_NO_DURATION = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


@dataclass(slots=True)
class Length:
    """
    What a file says of its length: bytes a second, or seconds; `declared` bytes of audio where that is said elsewhere.

    `samples` are those declared or met so far, at `hertz`, beside `before` seconds of what came earlier; `unit` is the
    nanoseconds of a duration. `block` and `frame` are the samples and bytes that FLAC's longest frames have.
    """

    rate: float = 0
    declared: int = 0
    seconds: float | None = None
    hertz: float = 0
    samples: int = 0
    before: float = 0
    unit: float = 1_000_000
    block: int = 0
    frame: int = 0

    def count(self, samples: int, hertz: float) -> None:
        """Note that so many samples play, at so many a second."""
        self.samples, self.hertz = samples, hertz
        if hertz and samples > 0:
            self.seconds = self.before + samples / hertz


def wave(length: Length, data: bytes, begin: int) -> None:
    """The format of WAV and W64."""
    (length.rate,) = struct.unpack_from("<I", data, begin + 8)


def large_wave(length: Length, data: bytes, begin: int) -> None:
    """The sizes of RF64, which are too long for 32 bits."""
    (length.declared,) = struct.unpack_from("<Q", data, begin + 8)


def aiff(length: Length, data: bytes, begin: int) -> None:
    """The format of AIFF, whose sampling rate has 80 bits."""
    samples, exponent, mantissa = struct.unpack_from(">2xI2xHQ", data, begin)
    length.count(samples, mantissa * 2.0 ** ((exponent & 0x7FFF) - 16446))


def caf(length: Length, data: bytes, begin: int) -> None:
    """The format of CAF; packets of no fixed length say nothing."""
    hertz, size, samples = struct.unpack_from(">d8xII", data, begin)
    length.rate = hertz / samples * size if samples else 0


def au(length: Length, data: bytes, begin: int) -> None:
    """The format of AU."""
    encoding, hertz, channels = struct.unpack_from(">12xIII", data)
    length.rate = _AU_BYTES.get(encoding, 0) * hertz * channels


def asf(length: Length, data: bytes, begin: int) -> None:
    """The properties of ASF, in units of 100 ns and ms; a broadcast says nothing."""
    duration, preroll, flags = struct.unpack_from("<40xQ8xQI", data, begin)
    if duration and not flags & 1:
        length.seconds = max(0.0, duration / 1e7 - preroll / 1e3)


def mp4(length: Length, data: bytes, begin: int) -> None:
    """The header of MP4's index; that of fragments has no duration."""
    scale, duration = struct.unpack_from(">20xIQ" if data[begin] else ">12xII", data, begin)
    if scale and duration not in _NO_DURATION:
        length.seconds = duration / scale


def ebml_scale(length: Length, data: bytes, begin: int) -> None:
    """How many nanoseconds Matroska's unit has."""
    length.unit = int.from_bytes(data[begin:], "big")


def ebml(length: Length, data: bytes, begin: int) -> None:
    """The duration of Matroska, in its units."""
    (duration,) = struct.unpack(">f" if len(data) - begin == 4 else ">d", data[begin:])
    if duration > 0:
        length.seconds = duration * length.unit / 1e9


def ogg_first(length: Length, data: bytes, begin: int) -> None:
    """The first page of a stream in Ogg; another stream may have gone before."""
    hertz, data = 0, data[begin:]
    if data.startswith(b"OpusHead"):
        hertz = 48_000
    elif data.startswith(b"\x01vorbis"):
        (hertz,) = struct.unpack_from("<I", data, 12)
    elif data.startswith(b"Speex   "):
        (hertz,) = struct.unpack_from("<I", data, 36)
    elif data.startswith(b"\x7fFLAC"):
        hertz = int.from_bytes(data[27:30], "big") >> 4
    if hertz:
        length.before, length.samples, length.hertz = length.seconds or 0.0, 0, hertz


def ogg(length: Length, data: bytes, begin: int) -> None:
    """A page of Ogg: how many samples end with it."""
    (position,) = struct.unpack_from("<q", data, 6)
    length.count(position, length.hertz)
