"""What a file is, by its first bytes and by what its server calls it: any audio is kept, no text is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import MediaNotReady

if TYPE_CHECKING:
    from collections.abc import Mapping

# Enough for every signature, and to see that something is text.
HEAD_BYTES = 1024
_UNKNOWN = "application/octet-stream"
# Names by the bytes that differ from what players and browsers expect.
_USUAL: Mapping[str, str] = {
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
    "video/webm": "audio/webm",
    "video/mp4": "audio/mp4",
    "video/3gpp": "audio/3gpp",
}
_EXTENSIONS: Mapping[str, str] = {
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/basic": "au",
    "audio/webm": "webm",
    "audio/3gpp": "3gp",
    _UNKNOWN: "bin",
}
_SUBTYPE = re.compile(r"[a-z0-9]{1,12}")
# What a text begins with, after blanks and a byte order mark.
_TEXTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("HTML", re.compile(r"\s*<(!doctype|html|head|body|!--)", re.IGNORECASE)),
    ("XML", re.compile(r"\s*<[a-z?]", re.IGNORECASE)),
    ("JSON", re.compile(r'\s*(\{\s*["}]|\[\s*["{\[\]\d])')),
)
_TEXT_LABEL = re.compile(r"text/.*|application/(?:.*[+])?(?:json|xml)")
_ENCODINGS: tuple[tuple[bytes, str], ...] = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


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
    known = _by_bytes(head)
    if known is not None:
        return known
    text = _as_text(head, label)
    if text is not None:
        for name, pattern in _TEXTS:
            if pattern.match(text):
                raise MediaNotReady(f"{name} instead of audio")
        if not label.startswith("audio/"):
            raise MediaNotReady("text instead of audio")
    if label.startswith(("audio/", "video/")):
        return _named(label)
    return _named(_UNKNOWN)


def _by_bytes(head: bytes) -> Audio | None:
    import filetype

    found = filetype.guess(head)
    if found is not None and not _is_text_behind_a_tag(head):
        return _named(found.mime, found.extension)
    return _named("audio/mpeg") if _is_mpeg_frame(head) else None


def _is_text_behind_a_tag(head: bytes) -> bool:
    """Whether what looks like an ID3 tag is words: a tag's version and size are small numbers."""
    return head[:3] == b"ID3" and not (len(head) >= 10 and head[3] in (2, 3, 4) and max(head[6:10]) < 0x80)


def _is_mpeg_frame(head: bytes) -> bool:
    """Whether an MPEG frame of layer III begins here: eleven set bits, and no reserved value after them."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, sampling = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and bitrate not in (0, 15) and sampling != 3


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
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), "utf-8")
    try:
        # The last character may be cut in two.
        text = head[: len(head) - len(head) % 2].decode(encoding) if encoding == "utf-16" else _utf8(head, encoding)
    except UnicodeDecodeError:
        text = head.decode("latin-1")
        if not _TEXT_LABEL.fullmatch(label) and not any(pattern.match(text) for _, pattern in _TEXTS):
            return None
    return None if any(character < " " and character not in "\t\r\n\f\v" for character in text) else text


def _utf8(head: bytes, encoding: str) -> str:
    import codecs

    return codecs.getincrementaldecoder(encoding)().decode(head)
