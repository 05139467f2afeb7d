"""What a file is, by its first bytes and by what its server calls it: any audio is kept, no text is."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import MediaNotReady
from shared.media import frames
from shared.media.containers import CONTAINERS, container_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# Enough for every signature, for two frames, and to see that something is text.
HEAD_BYTES = 4096
_UNKNOWN = "application/octet-stream"
# Names that differ from what players and browsers expect.
_USUAL: Mapping[str, str] = {
    **dict.fromkeys(("audio/x-wav", "audio/wave", "audio/x-pn-wav", "audio/vnd.wave"), "audio/wav"),
    **dict.fromkeys(("audio/mp3", "audio/x-mp3", "audio/mpeg3", "audio/x-mpeg-3", "audio/x-mpeg"), "audio/mpeg"),
    **dict.fromkeys(("audio/mpg", "audio/mpa", "audio/x-mpegaudio"), "audio/mpeg"),
    **dict.fromkeys(("video/mp4", "audio/x-m4a", "audio/m4a"), "audio/mp4"),
    **dict.fromkeys(("audio/x-aac", "audio/aacp"), "audio/aac"),
    **dict.fromkeys(("audio/x-amr", "audio/x-amr-nb"), "audio/amr"),
    **dict.fromkeys(("audio/opus", "audio/vorbis", "audio/x-ogg"), "audio/ogg"),
    **dict.fromkeys(("video/x-ms-asf", "video/x-ms-wmv"), "audio/x-ms-wma"),
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
    "video/webm": "audio/webm",
    "video/x-matroska": "audio/x-matroska",
    "video/3gpp": "audio/3gpp",
    "audio/x-au": "audio/basic",
}
_EXTENSIONS: Mapping[str, str] = {row.content_type: row.extension for row in CONTAINERS} | {_UNKNOWN: "bin"}
_SUBTYPE = re.compile(r"[a-z0-9]{1,12}")
# What a text begins with, after blanks and a byte order mark.
_TEXTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("HTML", re.compile(r"\s*<(!doctype|html|head|body|!--)", re.IGNORECASE)),
    ("XML", re.compile(r"\s*<[a-z?]", re.IGNORECASE)),
    ("JSON", re.compile(r'\s*(\{\s*["}]|\[\s*["{\[\]\d])')),
)
_TEXT_LABEL = re.compile(r"text/.*|application/(?:.*[+])?(?:json|xml)")


@dataclass(frozen=True, slots=True)
class Audio:
    """A kind of audio: its content type and the extension of its files."""

    content_type: str
    extension: str


def kind_of(head: bytes, label: str) -> Audio:
    """
    The kind of audio that a file beginning with `head` is; `label` is its server's Content-Type.

    The bytes are believed first, then the label; what neither knows is kept as plain bytes. Raises MediaNotReady,
    which says what it is, for HTML, XML and JSON, and for plain text that nobody calls audio.
    """
    label = label.partition(";")[0].strip().lower()
    if (known := _by_bytes(head)) is not None:
        return known
    if (text := _as_text(head, label)) is not None:
        usual = "" if label.startswith("audio/") else "text"
        if wrong := next((name for name, pattern in _TEXTS if pattern.match(text)), usual):
            raise MediaNotReady(f"{wrong} instead of audio")
        return _named(label)
    return _by_other_bytes(head) or _named(label if label.startswith(("audio/", "video/")) else _UNKNOWN)


def _by_bytes(head: bytes) -> Audio | None:
    """What bytes say that are no text: a container's signature, or a frame or tag of MPEG audio."""
    if (container := container_of(head)) is not None:
        return Audio(container.content_type, container.extension)
    if frames.begins(head):
        return _named("audio/mpeg" if head[1] & 6 else "audio/aac")
    return _named("audio/mpeg") if frames.tag_size(head) else None


def _by_other_bytes(head: bytes) -> Audio | None:
    """What a library says that knows more kinds, some of them by two letters."""
    import filetype

    found = filetype.guess(head)
    # It takes less for a frame or a tag than there is to one.
    if found is None or found.mime in ("audio/mpeg", "audio/aac"):
        return None
    return _named(found.mime, found.extension)


def _named(content_type: str, extension: str = "") -> Audio:
    content_type = _USUAL.get(content_type, content_type)
    subtype = content_type.partition("/")[2].removeprefix("x-").partition("+")[0]
    known = extension or (subtype if _SUBTYPE.fullmatch(subtype) else "bin")
    return Audio(content_type, _EXTENSIONS.get(content_type, known))


def _as_text(head: bytes, label: str) -> str | None:
    """
    The head as text where it is one: whole characters, and of those below a blank only those of lines.

    In an older encoding every byte is a character: that is one where its label or its beginning says so.
    """
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        # The last character may be cut in two.
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        text = head.decode("latin-1")
        if not _TEXT_LABEL.fullmatch(label) and not any(pattern.match(text) for _, pattern in _TEXTS):
            return None
    return None if any(character < " " and character not in "\t\r\n\f\v" for character in text) else text
