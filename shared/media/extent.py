"""How much audio a file declares and how much of it is there, seen while its bytes go by."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.media import frames
from shared.media.containers import layout_of
from shared.media.elements import LONGEST_HEADER, Length, NoElement
from shared.media.frames import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.media.containers import Layout
    from shared.media.elements import Element

# So much is looked at at once (blocks are larger, and are not copied), and kept of the end where that is needed.
_PART = 64 * 1024


@dataclass(frozen=True, slots=True)
class Extent:
    """
    What a file says of itself, by its container.

    `start` is where audio begins; `end` how many bytes the file has at least when it is whole, None where that is not
    said (a stream of unknown length); `seconds` how long what is there plays, None if unknown.
    """

    start: int = 0
    end: int | None = None
    seconds: float | None = None


def is_whole(found: Extent, size: int) -> bool:
    """Whether there is audio, and as much of it as the container declares."""
    return size > found.start and (found.end is None or size >= found.end)


class Follower:
    """
    Follows the elements of a file, each of which says where the next one begins, through its bytes as they come.

    Nothing is kept but an element's header that is not all there yet, and the last bytes where a container needs them.
    """

    def __init__(self, content_type: str) -> None:
        self._content_type = content_type
        self._layout: Layout | None = None
        self._frames: frames.Frames | None = None
        # The bytes so far, where the next element begins, and what is there of its header.
        self._size, self._at, self._rest, self._tail = 0, 0, b"", b""
        # Where audio begins, where the elements end, which of them are still to come, and where others go on.
        self._start: int | None = None
        self._end = 0
        self._missing: set[bytes] = set()
        self._outer: list[int] = []
        self._length = Length()

    def add(self, block: bytes) -> None:
        """The next bytes of the file."""
        for begin in range(0, len(block), _PART):
            part = block[begin : begin + _PART]
            self._size += len(part)
            if self._layout is None or self._layout.whole is not None:
                self._tail = (self._tail + part)[-_PART:]
            if self._at < self._size:
                data = self._rest + part
                self._follow(data, LONGEST_HEADER)
                left = self._size - self._at
                self._rest = data[-left:] if left > 0 else b""

    def extent(self) -> Extent:
        """What the file says of itself; no bytes of it come after this."""
        if self._at < self._size:
            self._follow(self._rest, 1)
            self._rest = b""
        size, layout = self._size, self._layout
        if layout is None:
            # Nothing but tags.
            return Extent(size)
        if self._frames is not None:
            first = self._frames.first
            return Extent(size if first is None else first, self._frames.end, self._frames.seconds(size))
        if layout.read is None:
            return Extent()
        if self._start is None:
            return Extent(size, self._end or None)
        if self._missing or (layout.whole and not layout.whole(self._length, self._tail)):
            self._end = max(self._end, size + 1)
        rate, end = self._length.rate, self._end or None
        return Extent(self._start, end, (min(size, end or size) - self._start) / rate if rate else self._length.seconds)

    def _follow(self, data: bytes, least: int) -> None:
        """Go from element to element as long as `least` bytes of one are there."""
        base = self._size - len(data)
        while self._size - self._at >= least:
            at = self._at - base
            if self._layout is None:
                self._choose(data, at)
            elif self._frames is not None:
                self._at = base + self._frames.follow(data, at, base, final=least == 1)
                return
            elif self._layout.read is not None:
                self._step(self._layout, self._layout.read, data, at)
            else:
                self._at = NEVER

    def _choose(self, data: bytes, at: int) -> None:
        """See what the file is, behind the tags that any may begin with."""
        head = data[at : at + LONGEST_HEADER]
        if tag := frames.tag_size(head):
            self._at += tag
            return
        self._layout = layout_of(head, self._content_type)
        self._missing = set(self._layout.needed)
        self._at += self._layout.lead
        if self._layout.frames is not None:
            self._frames = self._layout.frames()

    def _step(self, layout: Layout, read: Callable[[bytes, int], Element], data: bytes, at: int) -> None:
        try:
            element = read(data, at)
            inside = any(self._at < end < NEVER for end in self._outer)
            if layout.names and element.name not in layout.names and not inside:
                raise NoElement
            if note := layout.notes.get(element.name):
                size = LONGEST_HEADER if element.size is None else element.size
                note(self._length, data[at : at + min(size, LONGEST_HEADER)], element.begin)
        except (NoElement, struct.error, IndexError):
            self._pass_over(layout, data, at)
            return
        self._missing.discard(element.name)
        size_of_it = self._audio(layout, element) if element.name in layout.audio else element.size
        if size_of_it is not None:
            self._end = max(self._end, self._at + size_of_it)
        after = NEVER if size_of_it is None else self._at + size_of_it
        if element.name in layout.inside:
            self._outer.append(after)
            after = self._at + element.begin
        self._at = NEVER if layout.last and self._start is not None else after

    def _audio(self, layout: Layout, element: Element) -> int | None:
        """Note where audio begins; its element's bytes in all, None where it does not know them."""
        size, content = element.size, None if element.size is None else element.size - element.begin
        if layout.endless is not None and (content is None or not 0 < content < layout.endless):
            declared = self._length.declared
            size = element.begin + declared if 0 < declared < NEVER else None
            if size is None:
                # Nor does what comes before it say how long the file is.
                self._end = 0
        elif content is not None and content <= 0:
            return size
        if self._start is None:
            self._start = self._at + element.begin
        return size

    def _pass_over(self, layout: Layout, data: bytes, at: int) -> None:
        """Go on where an element may begin, behind what is none."""
        if layout.sync:
            found = data.find(layout.sync, at + 1)
            self._at += found - at if found > 0 else max(1, len(data) - at - len(layout.sync) + 1)
            return
        self._at = next((end for end in reversed(self._outer) if self._at < end), NEVER)
