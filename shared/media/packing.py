"""What a server packs a file in for the way, undone where the file really is packed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from shared.errors import MediaNotReady
from shared.media import frames
from shared.media.containers import container_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# So much is looked at to see whether it is packed.
LOOKED_AT = 4096
# The file itself; some storages keep a word of their upload.
_PLAIN = frozenset({"", "identity", "none", "aws-chunked"})
# What packed bytes begin with; of some that says nothing.
_PACKED: Mapping[str, bytes] = {
    "gzip": rb"\x1f\x8b",
    "x-gzip": rb"\x1f\x8b",
    "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    "deflate": b"",
    "br": b"",
}


class Wire:
    """An answer's bytes as they came; what was looked at can be put back to be read again."""

    closed = False

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        # What is read before all that is to come, and the last four bytes that were read.
        self.first, self.last = b"", b""

    def read1(self, size: int, *, decode_content: bool = False) -> bytes:
        """What one read brings, at most `size` bytes; none at the end. Nothing is unpacked."""
        part: bytes = self.first[:size] or self._raw.read1(size, decode_content=False)
        self.first = self.first[size:]
        self.last = (self.last + part[-4:])[-4:]
        return part

    read = read1

    def close(self) -> None:
        """There is no more to read."""
        self.closed = True


def packings(encoding: str) -> list[str]:
    """The ways in which a file is packed by its Content-Encoding, the last one outermost; none where it is not."""
    return [name for part in encoding.lower().split(",") if (name := part.strip()) not in _PLAIN]


def unpacked(wire: Wire, first: bytes, names: list[str]) -> Any:
    """
    What to read a file from that is packed by its server's word and begins with `first`.

    That is the wire itself where the bytes are those of audio, or of none of these packings. Raises MediaNotReady for
    other bytes in a packing that nobody knows.
    """
    import urllib3

    if not first or container_of(first) or frames.begins(first) or frames.tag_size(first):
        return wire
    if any(name not in _PACKED for name in names):
        raise MediaNotReady("packed in an unknown way")
    if not re.match(_PACKED[names[-1]], first):
        return wire
    reading: Any = wire
    return urllib3.HTTPResponse(reading, {"Content-Encoding": ", ".join(names)}, preload_content=False)


def is_cut(wire: Wire, names: list[str], size: int) -> bool:
    """
    Whether a gzip that unpacked to so many bytes lacks its end, which says how many its last part has.

    What stands there otherwise is a number that is far too large, nearly always. Other packings do not say.
    """
    return names in (["gzip"], ["x-gzip"]) and int.from_bytes(wire.last, "little") > size
