"""FLAC, whose header says how many samples there are, and whose frames say which ones they hold."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.media.elements import Length

# What others append behind the last frame.
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_CANDIDATES = 16
_BLOCKS = (0, 192, *(576 << n for n in range(4)), 0, 0, *(256 << n for n in range(8)))
_RATE_BYTES = {12: 1, 13: 2, 14: 2}


def info(length: Length, data: bytes, begin: int) -> None:
    """The first block of metadata; it need not know how many samples there are."""
    block = data[4:]
    bits = int.from_bytes(block[10:18], "big")
    length.count(bits & ((1 << 36) - 1), bits >> 44)
    length.block, length.frame = int.from_bytes(block[2:4], "big"), int.from_bytes(block[7:10], "big")


def is_whole(length: Length, tail: bytes) -> bool:
    """Whether a file with these last bytes has the frame that holds the last sample, to its end."""
    if not length.samples or length.frame > len(tail):
        # Nothing is declared, or the last frame may not fit into what is looked at.
        return True
    last = (at for at in _syncs(tail) if _samples(tail, at, length.block) >= length.samples)
    return any(_closes(tail, at) for at in islice(last, _CANDIDATES))


def _syncs(tail: bytes) -> Iterator[int]:
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if tail[at + 1 : at + 2] in (b"\xf8", b"\xf9"):
            yield at


def _samples(tail: bytes, at: int, block: int) -> int:
    """How many samples end with the frame that begins here; 0 where none does."""
    header = tail[at : at + 16]
    if len(header) < 6 or header[3] & 1:
        return 0
    code, rate = header[2] >> 4, header[2] & 15
    width = max(1, 8 - (header[4] ^ 0xFF).bit_length())
    number = header[4] & (0xFF >> width)
    for byte in header[5 : 4 + width]:
        number = number << 6 | byte & 0x3F
    end = 4 + width
    more = {6: 1, 7: 2}.get(code, 0)
    own = int.from_bytes(header[end : end + more], "big") + 1 if more else _BLOCKS[code]
    end += more + _RATE_BYTES.get(rate, 0)
    if not own or end >= len(header) or _remainder(header[:end], 0x07, 8) != header[end]:
        return 0
    return (number if header[1] & 1 else number * block) + own


def _closes(tail: bytes, at: int) -> bool:
    """Whether the frame that begins here ends with its checksum, and nothing but a tag follows."""
    remainder = 0
    for place in range(at, len(tail)):
        remainder = (remainder << 8 & 0xFF00) ^ _CRC16[(remainder >> 8) ^ tail[place]]
        if remainder == 0 and (not tail[place + 1 :].strip(b"\0\r\n") or tail.startswith(_TAGS, place + 1)):
            return True
    return False


def _remainder(data: bytes, polynomial: int, bits: int) -> int:
    remainder, top = 0, 1 << bits - 1
    for byte in data:
        remainder ^= byte << bits - 8
        for _ in range(8):
            remainder = (remainder << 1 ^ polynomial if remainder & top else remainder << 1) & (2 * top - 1)
    return remainder


_CRC16 = tuple(_remainder(bytes([byte]), 0x8005, 16) for byte in range(256))
