"""How the containers of audio write the headers of their elements: chunks, boxes, objects, pages and blocks."""

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


class NoElement(Exception):
    """What stands here is the header of no element."""


@dataclass(slots=True)
class Element:
    """An element: its name, where its content begins, and its bytes in all; None where it does not say how many."""

    name: bytes
    begin: int
    size: int | None


def riff(data: bytes, at: int) -> Element:
    """A chunk of RIFF, after whose odd length a zero may stand, or not."""
    return _chunk(data, at, "<I")


def aiff(data: bytes, at: int) -> Element:
    """A chunk of AIFF; that of the sound has two more numbers before it."""
    element = _chunk(data, at, ">I")
    element.begin += 8 * (element.name == b"SSND")
    return element


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


def au(data: bytes, at: int) -> Element:
    """The whole of an AU file."""
    name, begin, length = struct.unpack_from(">4sII", data, at)
    return Element(name, max(begin, 24), max(begin, 24) + length)


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


def flac(data: bytes, at: int) -> Element:
    """A block of FLAC's metadata, named by its type; behind the last one all is audio."""
    size = 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    last = bool(data[at] & 0x80)
    return Element(data[at : at + 1], size if last else 4, None if last else size)
