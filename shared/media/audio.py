"""What kind of audio a file is, told by its first bytes and not by its name."""

from __future__ import annotations

from dataclasses import dataclass

# Enough for every signature below.
HEAD_BYTES = 12


@dataclass(frozen=True, slots=True)
class Audio:
    """A row: a kind of audio, its content type and the extension of its files."""

    content_type: str
    extension: str


MP3 = Audio("audio/mpeg", "mp3")
WAV = Audio("audio/wav", "wav")
OGG = Audio("audio/ogg", "ogg")
KINDS = (MP3, WAV, OGG)


def sniff(head: bytes) -> Audio | None:
    """The kind of audio that a file beginning with these bytes is; None for a page, a text or anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return WAV
    if head[:4] == b"OggS":
        return OGG
    if _is_id3_tag(head) or _is_mpeg_frame(head):
        return MP3
    return None


def _is_id3_tag(head: bytes) -> bool:
    """Whether an ID3v2 tag begins here: a version there is, and a size of seven bits a byte."""
    return len(head) >= 10 and head[:3] == b"ID3" and head[3] in (2, 3, 4) and max(head[6:10]) < 0x80


def _is_mpeg_frame(head: bytes) -> bool:
    """Whether an MPEG frame of layer III begins here: eleven set bits, and no reserved value after them."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, sampling = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and bitrate not in (0, 15) and sampling != 3
