"""AMR: frames whose first byte says how long they are."""

from __future__ import annotations

from dataclasses import dataclass

from shared.media.frames import NEVER

# Bytes of a frame by its type, header included; narrow band and wide band.
_NARROW = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)
_WIDE = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)
_SECONDS = 0.02


@dataclass(slots=True)
class Frames:
    """The frames of an AMR file; `sizes` are their bytes by type."""

    sizes: tuple[int, ...]
    first: int | None = None
    end: int | None = None
    _met: int = 0

    def seconds(self, size: int) -> float | None:
        """How long the frames that were met play; a file of any size is gone through."""
        return self._met * _SECONDS

    def follow(self, data: bytes, at: int, base: int, *, final: bool) -> int:
        """Go through the frames from `at` on; returns where to go on. What is no frame ends them."""
        sizes, last = self.sizes, len(data)
        if self.first is None and at < last:
            self.first = base + at
        while at < last:
            size = sizes[data[at] >> 3 & 15]
            if not size:
                return NEVER
            self._met += 1
            at += size
        return at


def narrow() -> Frames:
    """Frames of narrow band."""
    return Frames(_NARROW)


def wide() -> Frames:
    """Frames of wide band."""
    return Frames(_WIDE)
