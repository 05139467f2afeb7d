"""How the containers of audio write their elements: the headers, and what some of them say of its length."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# No header that is read here is longer.
LONGEST_HEADER = 512
SEGMENT, CLUSTER, INFO = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\x15\x49\xa9\x66"
# What stands in a file beside the audio.
EBML_NAMES = frozenset(
    bytes.fromhex(id)
    for id in ("1a45dfa3", "114d9b74", "1654ae6b", "1c53bb6b", "1941a469", "1043a770", "1254c367", "ec", "bf")
) | {SEGMENT, CLUSTER, INFO}
MP4_NAMES = frozenset(
    b"ftyp styp moov mdat moof mfra free skip wide uuid meta sidx ssix prft pdin emsg udta pnot PICT idat".split()
)
AIFF_NAMES = frozenset(
    (*b"COMM SSND FVER MARK INST MIDI AESD APPL COMT NAME AUTH ANNO CHAN FLLR".split(), b"ID3 ", b"(c) ", b"")
)
CAF_NAMES = frozenset(b"desc data pakt chan kuki strg mark regn inst midi info edct ovvw uuid umid peak free".split())
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")

# Bytes of a sample by the encoding of an AU file.
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_NO_DURATION = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


class NoElement(Exception):
    """What stands here is the header of no element."""


@dataclass(slots=True)
class Element:
    """An element: its name, where its content begins, and its bytes in all; None where it does not say how many."""

    name: bytes
    begin: int
    size: int | None


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


# A header is read where it stands; what says a length is given from its header on, and where its content begins.


def riff(data: bytes, at: int) -> Element:
    """A chunk of RIFF, after whose odd length a zero may stand, or not."""
    return _chunk(data, at, "<I")


def wave_format(length: Length, data: bytes, begin: int) -> None:
    """The format of WAV and W64."""
    (length.rate,) = struct.unpack_from("<I", data, begin + 8)


def wave_sizes(length: Length, data: bytes, begin: int) -> None:
    """The sizes of RF64, which are too long for 32 bits."""
    (length.declared,) = struct.unpack_from("<Q", data, begin + 8)


def aiff(data: bytes, at: int) -> Element:
    """A chunk of AIFF; that of the sound has two more numbers before it."""
    element = _chunk(data, at, ">I")
    element.begin += 8 * (element.name == b"SSND")
    return element


def aiff_format(length: Length, data: bytes, begin: int) -> None:
    """The format of AIFF, whose sampling rate has 80 bits."""
    samples, exponent, mantissa = struct.unpack_from(">2xI2xHQ", data, begin)
    length.count(samples, mantissa * 2.0 ** ((exponent & 0x7FFF) - 16446))


def _chunk(data: bytes, at: int, length: str) -> Element:
    if data[at] == 0:
        return Element(b"", 1, 1)
    name = data[at : at + 4]
    if not name.isascii():
        raise NoElement
    return Element(name, 8, 8 + int(struct.unpack_from(length, data, at + 4)[0]))


def caf(data: bytes, at: int) -> Element:
    """A chunk of CAF; that of the audio has a number before it, and need not say how long it is."""
    name, length = struct.unpack_from(">4sq", data, at)
    return Element(name, 16 if name == b"data" else 12, None if length < 0 else 12 + length)


def caf_format(length: Length, data: bytes, begin: int) -> None:
    """The format of CAF; packets of no fixed length say nothing."""
    hertz, size, samples = struct.unpack_from(">d8xII", data, begin)
    length.rate = hertz / samples * size if samples else 0


def w64(data: bytes, at: int) -> Element:
    """A chunk of W64, named by the first four bytes of its GUID; it begins at a multiple of eight."""
    name, length = struct.unpack_from("<4s12xQ", data, at)
    if length < 24:
        # That of the audio before its length is known.
        return Element(name, 24, None)
    # No padding behind the audio: it need not be there at the file's end.
    return Element(name, 24, length if name == b"data" else length + -length % 8)


def asf(data: bytes, at: int) -> Element:
    """An object of ASF; those of the header stand inside it, and that of the audio has 26 bytes before it."""
    name, length = struct.unpack_from("<16sQ", data, at)
    if length < 24:
        raise NoElement
    return Element(name, {ASF_HEADER: 30, ASF_DATA: 50}.get(name, 24), length)


def asf_properties(length: Length, data: bytes, begin: int) -> None:
    """The properties of ASF, in units of 100 ns and ms; a broadcast says nothing."""
    duration, preroll, flags = struct.unpack_from("<40xQ8xQI", data, begin)
    if duration and not flags & 1:
        length.seconds = max(0.0, duration / 1e7 - preroll / 1e3)


def au(data: bytes, at: int) -> Element:
    """The whole of an AU file."""
    name, begin, length = struct.unpack_from(">4sII", data, at)
    return Element(name, max(begin, 24), max(begin, 24) + length)


def au_format(length: Length, data: bytes, begin: int) -> None:
    """The format of AU."""
    encoding, hertz, channels = struct.unpack_from(">12xIII", data)
    length.rate = _AU_BYTES.get(encoding, 0) * hertz * channels


def mp4(data: bytes, at: int) -> Element:
    """A box of MP4, 3GP or QuickTime."""
    length, name = struct.unpack_from(">I4s", data, at)
    begin = 8
    if length == 1:
        (length,) = struct.unpack_from(">Q", data, at + 8)
        begin = 16
    if min(name) < 0x20 or 0 < length < begin:
        raise NoElement
    # Without a length it goes to the end of the file, wherever that is.
    return Element(name, begin, length or None)


def mp4_header(length: Length, data: bytes, begin: int) -> None:
    """The header of MP4's index; that of fragments has no duration."""
    scale, duration = struct.unpack_from(">20xIQ" if data[begin] else ">12xII", data, begin)
    if scale and duration not in _NO_DURATION:
        length.seconds = duration / scale


def ebml(data: bytes, at: int) -> Element:
    """An element of Matroska or WebM, named by its id."""
    width = 9 - data[at].bit_length()
    if width > 4:
        raise NoElement
    begin = at + width
    name, long = data[at:begin], 9 - data[begin].bit_length()
    if long > 8 or begin + long > len(data):
        raise NoElement
    unknown = (1 << 7 * long) - 1
    length = int.from_bytes(data[begin : begin + long], "big") & unknown
    return Element(name, width + long, None if length == unknown else width + long + length)


def ebml_scale(length: Length, data: bytes, begin: int) -> None:
    """How many nanoseconds Matroska's unit has."""
    length.unit = int.from_bytes(data[begin:], "big")


def ebml_duration(length: Length, data: bytes, begin: int) -> None:
    """The duration of Matroska, in its units."""
    (duration,) = struct.unpack(">f" if len(data) - begin == 4 else ">d", data[begin:])
    if duration > 0:
        length.seconds = duration * length.unit / 1e9


def ogg(data: bytes, at: int) -> Element:
    """A page of Ogg, named `page` where a packet of audio ends in it: the first ones have the position 0 or none."""
    mark = data[at : at + 4]
    if mark != b"OggS"[: len(mark)]:
        raise NoElement
    if at + 27 > len(data):
        return Element(b"", 27, 28)
    begin = 27 + data[at + 26]
    size = begin + sum(data[at + 27 : at + begin])
    (position,) = struct.unpack_from("<q", data, at + 6)
    return Element(b"page" if position > 0 else b"first", begin, size)


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


def ogg_page(length: Length, data: bytes, begin: int) -> None:
    """A page of Ogg: how many samples end with it."""
    (position,) = struct.unpack_from("<q", data, 6)
    length.count(position, length.hertz)


def flac(data: bytes, at: int) -> Element:
    """A block of FLAC's metadata, named by its type; behind the last one all is audio."""
    size = 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    last = bool(data[at] & 0x80)
    return Element(data[at : at + 1], size if last else 4, None if last else size)
