"""Tells the kind of an audio file, the size its container declares and the seconds it plays, by its head and tail."""

from __future__ import annotations

import codecs
import io
import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.errors import MediaNotReady

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinytag import TinyTag

    from shared.media.download import Excerpt

_LOOK = 4096  # bytes that tell a kind
_UNKNOWN = "application/octet-stream"
_USUAL: Mapping[str, str] = {
    **dict.fromkeys(("video/mp4", "audio/x-m4a", "audio/m4a", "video/3gpp"), "audio/mp4"),
    **dict.fromkeys(("video/x-ms-asf", "video/x-ms-wmv"), "audio/x-ms-wma"),
    **{f"audio/x-{name}": f"audio/{name}" for name in ("wav", "aac", "flac", "aiff", "amr", "ogg")},
    "audio/mp3": "audio/mpeg", "video/webm": "audio/webm", "video/x-matroska": "audio/x-matroska",
}  # fmt: skip
_EXTENSIONS = {"audio/mpeg": "mp3", "audio/mp4": "m4a", "audio/x-matroska": "mka", "audio/basic": "au", _UNKNOWN: "bin"}
_SUBTYPE = re.compile(r"[a-z0-9]{1,12}")
# The header of an MPEG frame: its sync, a version, a layer, a bitrate and a sampling rate that exist.
_FRAME = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x10-\xef]", re.DOTALL)
# The element that holds the sound, by extension; the library looks at headers only.
_SOUND: Mapping[str, bytes] = {
    "m4a": b"mdat", **dict.fromkeys(("webm", "mka"), bytes.fromhex("1f43b675")),
    "wma": bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c"),
}  # fmt: skip
# Recorders that stream write 0, all ones, or nearly so, for a size that they do not know.
_ENDLESS = 0x7F000000
_MARKUP = re.compile(r"""\s*(<[a-z?!]|\{\s*["}]|\[\s*["{\[\]\d])""", re.IGNORECASE)  # HTML, XML, or JSON
_TEXT_LABEL = re.compile(r"text/.*|application/(?:.*[+])?(?:json|xml)")


class Sound(NamedTuple):
    """True `there` for a file with sound; the bytes that it declares to have, and the seconds it plays, if known."""

    there: bool
    declared: int | None = None
    seconds: float | None = None


def kind_of(head: bytes, label: str) -> tuple[str, str]:
    """
    Return the content type and extension of a file by its first bytes, else by `label`, its server's Content-Type.

    Raises MediaNotReady for text of any kind.
    """
    import filetype

    head, label = head[:_LOOK], label.partition(";")[0].strip().lower()
    if _is_text(head, label):
        raise MediaNotReady("text instead of audio")
    known, extension = filetype.guess(head), ""
    if known is not None:
        label, extension = known.mime, known.extension
    elif _FRAME.match(head):
        label = "audio/mpeg"
    elif not label.startswith(("audio/", "video/")):
        label = _UNKNOWN
    usual = _USUAL.get(label, label)
    if not extension or usual != label:
        extension = usual.partition("/")[2].removeprefix("x-").removeprefix("ms-")
    return usual, _EXTENSIONS.get(usual, extension if _SUBTYPE.fullmatch(extension) else "bin")


def _is_text(head: bytes, label: str) -> bool:
    """Return True for text, in an older encoding only where label or beginning say so."""
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        # The last character may be cut in two.
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        text = head.decode("latin-1")
        if not _TEXT_LABEL.fullmatch(label) and not _MARKUP.match(text):
            return False
    return not any(character < " " and character not in "\t\r\n\f\v" for character in text)


def sound_of(extension: str, file: Excerpt) -> Sound:
    """Return what a file of this kind declares of its sound."""
    from tinytag import TinyTag

    whole, mark = file.size == len(file.tail), _SOUND.get(extension, b"")
    if extension in ("wav", "aiff") and file.head[:4] in (b"RIFF", b"RF64", b"FORM"):
        return _in_chunks(file)
    if whole and mark and file.tail.find(mark) not in range(file.size - len(mark)):
        return Sound(there=False)
    if not TinyTag.is_supported(f".{extension}"):
        return Sound(there=True)
    if extension == "mp3":
        # The lowest rate of head and tail: a loud beginning makes no recording short.
        tags = [_tag(extension, part) for part in (file, io.BytesIO(file.tail))]
        rates = [tag.bitrate for tag in tags if tag and tag.bitrate]
        return Sound(bool(rates) or not whole, seconds=file.size / (min(rates) * 125) if rates else None)
    # The last page of an Ogg has its length.
    pages = io.BytesIO(file.head[: file.head.rfind(b"OggS")] + file.tail[max(0, file.tail.find(b"OggS")) :])
    tag = _tag(extension, pages if extension == "ogg" and not whole else file)
    there = tag is not None and (bool(tag.duration) if extension == "ogg" else tag.duration is not None)
    if extension == "flac":
        there = file.tell() < file.size
    # What is not kept may hide anything, but for the index of an MP4.
    return Sound(there or (not whole and extension != "m4a"), seconds=(tag and tag.duration) or None)


def _tag(extension: str, file: Any) -> TinyTag | None:
    from tinytag import TinyTag, TinyTagException

    try:
        return TinyTag.get(f".{extension}", file, tags=False, check_magic_bytes=False)
    except TinyTagException:
        return None


def _in_chunks(file: Excerpt) -> Sound:
    """Read the chunks of a WAV or AIFF up to that of its sound, whose size counts before that of all."""
    order, name, rate = (">", b"SSND", 0) if file.head.startswith(b"FORM") else ("<", b"data", 0)
    at, head = 12, file.head.ljust(12, b"\0")

    def size_at(place: int) -> int:
        """Return the size at a place, 0 for one that was not known when it was written."""
        (size,) = struct.unpack_from(order + "I", head, place)
        return size if size < _ENDLESS else 0

    declared = 8 + size_at(4)
    while at + 8 <= len(head):
        chunk, begin, size = head[at : at + 4], at + 8, size_at(at + 4)
        if chunk == name:
            declared = begin + size if size else declared
            seconds = (file.size - begin) / rate if rate else None
            return Sound(file.size > begin + 8 * (name == b"SSND"), declared if declared > 8 else None, seconds)
        if chunk == b"fmt " and begin + 12 <= len(head):
            (rate,) = struct.unpack_from("<I", head, begin + 8)
        at = begin + size + size % 2
    return Sound(there=file.size > len(head), declared=declared if declared > 8 else None)
