"""Fetches audio from the PBX, from allowed hosts only and within bounded time and memory, and recognises it."""

from __future__ import annotations

import codecs
import hashlib
import io
import re
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from shared.errors import MediaNotReady, MediaRefused, MediaUnreachable
from shared.http import AddressRefused, ending_by, guarded_session, is_loopback
from shared.settings import Settings
from shared.storage.account import once

if TYPE_CHECKING:
    import requests
    from tinytag import TinyTag

_TIMEOUTS = (5, 30)  # seconds to connect, and between two reads
_REDIRECTS = 3
# Content codings that the HTTP library decodes, and names for none; some storages keep that of the upload.
_CODINGS = frozenset({"gzip", "x-gzip", "deflate", "identity", "none", "aws-chunked", ""})
# Bytes kept of a file; an index of hours of audio fits into the tail.
_HEAD, _TAIL = 256 * 1024, 1024 * 1024
_LOOK = 4096  # bytes that identify a kind
_UNKNOWN = "application/octet-stream"
_USUAL = {
    **dict.fromkeys(("video/mp4", "audio/x-m4a", "audio/m4a", "video/3gpp"), "audio/mp4"),
    **dict.fromkeys(("video/x-ms-asf", "video/x-ms-wmv"), "audio/x-ms-wma"),
    **{f"audio/x-{name}": f"audio/{name}" for name in ("wav", "aac", "flac", "aiff", "amr", "ogg")},
    "audio/mp3": "audio/mpeg", "video/webm": "audio/webm", "video/x-matroska": "audio/x-matroska",
}  # fmt: skip
_EXTENSIONS = {"audio/mpeg": "mp3", "audio/mp4": "m4a", "audio/x-matroska": "mka", "audio/basic": "au", _UNKNOWN: "bin"}
_SUBTYPE = re.compile(r"[a-z0-9]{1,12}")
_MARKUP = re.compile(r"""\s*(<[a-z?!]|\{\s*["}]|\[\s*["{\[\]\d])""", re.IGNORECASE)  # HTML, XML, or JSON
_TEXT_LABEL = re.compile(r"text/.*|application/(?:.*[+])?(?:json|xml)")
# The header of an MPEG frame: its sync, a version, a layer, a bitrate and a sampling rate that exist.
_FRAME = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x10-\xef]", re.DOTALL)
# The element that holds the sound, by extension; the library looks at headers only.
_SOUND = {
    "m4a": b"mdat", **dict.fromkeys(("webm", "mka"), bytes.fromhex("1f43b675")),
    "wma": bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c"),
}  # fmt: skip
# Recorders that stream write 0, all ones, or nearly so, for a size that they do not know.
_ENDLESS = 0x7F000000
_session = once(guarded_session)


@contextmanager
def download(url: str, settings: Settings, key: Mapping[str, str], until: float) -> Iterator[Download]:
    """
    Fetch the audio at an address of the PBX; `key` is the header that opens the PBX's origin, and reaches no other.

    Raises MediaRefused for a host or address that is not allowed, MediaNotReady when the file is not there yet or its
    server redirects to a host that is not allowed yet, and MediaUnreachable. No error's text holds the address.
    """
    url = allowed(url.strip().replace("&amp;", "&"), settings)
    for _ in range(_REDIRECTS + 1):
        with ending_by(until):
            response = _ask(url, settings, key)
        with response:
            if not response.is_redirect:
                if response.status_code != HTTPStatus.OK:
                    raise MediaNotReady(f"answered {response.status_code}")
                yield Download(response, until)
                return
            # http.client takes each byte above ASCII for a character.
            target = response.headers["Location"].encode("latin-1").decode(errors="replace")
            url = allowed(target, settings, redirected_by=url)
    raise MediaRefused("too many redirects")


def allowed(url: str, settings: Settings, *, redirected_by: str = "") -> str:
    """
    Return the address to fetch, with https in place of http; its host is checked again when connecting.

    A relative address belongs to the PBX, or to the address that it was `redirected_by`. Raises MediaRefused for an
    address that must not be fetched. A redirect to a host that MEDIA_HOSTS lacks is MediaNotReady, so that the file
    waits for the setting.
    """
    try:
        url = urljoin(redirected_by or settings.pbx_base_url, url)
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise MediaRefused("not a URL") from None
    if "@" in parts.netloc:
        raise MediaRefused("a user in the URL")
    if parts.scheme not in ("http", "https") or not host:
        raise MediaRefused("not https")
    if host not in settings.allowed_media_hosts:
        reason = f"{host[:253]} is not in MEDIA_HOSTS"
        raise MediaNotReady(f"redirected, and {reason}") if redirected_by else MediaRefused(reason)
    if parts.scheme == "https" or (is_loopback(host) and _may_be_local(settings)):
        return url
    netloc = parts.netloc.removesuffix(":80") if port == 80 else parts.netloc
    return parts._replace(scheme="https", netloc=netloc).geturl()


def _may_be_local(settings: Settings) -> bool:
    """Return True if media may come from this machine: only where the PBX itself is a simulator on it."""
    return not settings.in_azure and is_loopback(settings.pbx_host)


def _ask(url: str, settings: Settings, key: Mapping[str, str]) -> requests.Response:
    import requests

    session = _session(allow_loopback=_may_be_local(settings))
    is_foreign = session.should_strip_auth(settings.pbx_base_url, url)  # type: ignore[no-untyped-call]
    headers = {"Accept-Encoding": "identity", **({} if is_foreign else key)}
    try:
        return session.get(url, headers=headers, timeout=_TIMEOUTS, stream=True, allow_redirects=False)
    except AddressRefused:
        raise MediaRefused("a private address") from None
    except ValueError:
        raise MediaRefused("not a URL") from None
    except (requests.RequestException, OSError):
        raise MediaUnreachable("out of reach") from None


class Download:
    """An answer that is read `until` a time; raises MediaNotReady for a file that is too slow."""

    def __init__(self, response: requests.Response, until: float) -> None:
        self._raw, self._until, self._broke, self.excerpt = response.raw, until, False, Excerpt()
        self.content_type = response.headers.get("Content-Type", "")
        codings = response.headers.get("Content-Encoding", "").lower().split(",")
        if not _CODINGS.issuperset(coding.strip() for coding in codings):
            raise MediaNotReady("packed in an unknown way")

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes: fewer only at the end, none after it."""
        import urllib3

        parts, left = list[bytes](), size
        try:
            while left and (part := self._raw.read1(left, decode_content=True)):
                parts.append(part)
                left -= len(part)
        except urllib3.exceptions.DecodeError:
            raise MediaNotReady("packed in an unknown way") from None
        except (urllib3.exceptions.HTTPError, OSError):
            if time.monotonic() >= self._until:
                raise MediaNotReady("too slow") from None
            self._broke = True
        block = b"".join(parts)
        self.excerpt.add(block)
        return block

    @property
    def is_cut(self) -> bool:
        """True if a file that has been read breaks off, or is packed and lacks its end."""
        from urllib3.response import GzipDecoderState

        decoder = getattr(self._raw, "_decoder", None)
        # Bytes behind the packed file are left out.
        is_padded = getattr(decoder, "_state", None) == GzipDecoderState.SWALLOW_DATA
        return self._broke or (not is_padded and not getattr(getattr(decoder, "_obj", None), "eof", True))


class Excerpt(io.RawIOBase):
    """The head and tail of a file, as a file of its true size; its middle reads as empty, so that it is not scanned."""

    def __init__(self) -> None:
        self.head, self.tail, self.size, self._at = b"", b"", 0, 0
        self.digest = hashlib.sha256()

    def add(self, block: bytes) -> None:
        self.size += len(block)
        self.digest.update(block)
        self.head += block[: _HEAD - len(self.head)]
        self.tail = block[-_TAIL:] if len(block) >= _TAIL else (self.tail + block)[-_TAIL:]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self.size)[whence])
        return self._at

    def read(self, count: int = -1) -> bytes:
        begin = self.size - len(self.tail)
        kept = self.tail[self._at - begin :] if self._at >= begin else self.head[self._at :]
        part = kept[: None if count < 0 else count]
        self._at += len(part)
        return part


def kind_of(head: bytes, label: str) -> tuple[str, str]:
    """Return a file's content type and extension, by its first bytes or its label; raises MediaNotReady for text."""
    import filetype

    head, label = head[:_LOOK], label.partition(";")[0].strip().lower()
    if _is_text(head, label):
        raise MediaNotReady("text instead of audio")
    guess, extension = filetype.guess(head), ""
    if guess is not None:
        label, extension = guess.mime, guess.extension
    elif _FRAME.match(head):
        label = "audio/mpeg"
    elif not label.startswith(("audio/", "video/")):
        label = _UNKNOWN
    usual = _USUAL.get(label, label)
    if not extension or usual != label:
        extension = usual.partition("/")[2].removeprefix("x-").removeprefix("ms-")
    return usual, _EXTENSIONS.get(usual, extension if _SUBTYPE.fullmatch(extension) else "bin")


def _is_text(head: bytes, label: str) -> bool:
    """Return True for text; in an older encoding only if its label or beginning shows it."""
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        # The last character may be cut in two.
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        text = head.decode("latin-1")
        if not _TEXT_LABEL.fullmatch(label) and not _MARKUP.match(text):
            return False
    return not any(character < " " and character not in "\t\r\n\f\v" for character in text)


class Sound(NamedTuple):
    """The sound of a file: if any is `there`, the size in bytes that its header declares, and its seconds, if known."""

    there: bool
    declared: int | None = None
    seconds: float | None = None


def sound_of(extension: str, file: Excerpt) -> Sound:
    """Return the sound of a file with this extension."""
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
        return Sound(bool(rates), seconds=file.size / (min(rates) * 125) if rates else None)
    # The last page of an Ogg has its length.
    pages = io.BytesIO(file.head[: file.head.rfind(b"OggS")] + file.tail[max(0, file.tail.find(b"OggS")) :])
    tag = _tag(extension, pages if extension == "ogg" and not whole else file)
    there = tag is not None and (bool(tag.duration) if extension == "ogg" else tag.duration is not None)
    if extension == "flac":
        there = file.tell() < file.size
    # The middle, which is not kept, may have sound; an MP4 that has any has its index in the head or the tail.
    return Sound(there or (not whole and extension != "m4a"), seconds=(tag and tag.duration) or None)


def _tag(extension: str, file: Any) -> TinyTag | None:
    from tinytag import TinyTag, TinyTagException

    try:
        return TinyTag.get(f".{extension}", file, tags=False, check_magic_bytes=False)
    except TinyTagException:
        return None


def _in_chunks(file: Excerpt) -> Sound:
    """Return the sound of a WAV or AIFF; the size of its sound chunk takes precedence over that of the file."""
    order, name, rate = (">", b"SSND", 0) if file.head.startswith(b"FORM") else ("<", b"data", 0)
    at, head = 12, file.head.ljust(12, b"\0")

    def size_at(place: int) -> int:
        # A size that was unknown when it was written is 0.
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
