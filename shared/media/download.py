"""Fetches audio from the PBX: from allowed hosts only, whole or not at all, within bounded time and memory."""

from __future__ import annotations

import hashlib
import io
import re
import time
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from shared.errors import MediaNotReady, MediaRefused, MediaUnreachable
from shared.http import AddressRefused, ending_by, guarded_session
from shared.settings import is_loopback
from shared.storage.account import once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from shared.settings import Settings

_TIMEOUTS = (5, 30)  # seconds to connect, and between two reads
LONGEST_SECONDS = 25 * 60.0  # below the host's functionTimeout
_REDIRECTS = 3
# Bytes kept of a file; an index of hours of audio fits into the tail.
_HEAD, _TAIL = 256 * 1024, 1024 * 1024
# Content codings that the HTTP library undoes, and names of none; some storages keep a word of their upload.
_CODINGS = frozenset({"gzip", "x-gzip", "deflate", "identity", "none", "aws-chunked", ""})
_session = once(guarded_session)


class Excerpt(io.RawIOBase):
    """The head and tail of a file as a file of its true size; its middle reads as an end, so that nobody scans it."""

    def __init__(self) -> None:
        self.head, self.tail, self.size, self._at = b"", b"", 0, 0
        self.digest = hashlib.sha256()

    def add(self, block: bytes) -> None:
        """Append the file's next bytes."""
        self.size += len(block)
        self.digest.update(block)
        self.head += block[: _HEAD - len(self.head)]
        self.tail = block[-_TAIL:] if len(block) >= _TAIL else (self.tail + block)[-_TAIL:]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset, also to one in the middle."""
        self._at = max(0, offset + (0, self._at, self.size)[whence])
        return self._at

    def read(self, count: int = -1) -> bytes:
        """Return the bytes at this place, as far as they are kept."""
        begin = self.size - len(self.tail)
        kept = self.tail[self._at - begin :] if self._at >= begin else self.head[self._at :]
        part = kept[: None if count < 0 else count]
        self._at += len(part)
        return part


class Download:
    """An answer being read `until` a time; raises MediaNotReady for a file that is cut short or comes too slowly."""

    def __init__(self, response: requests.Response, until: float) -> None:
        self._raw, self._until, self.excerpt = response.raw, until, Excerpt()
        self.content_type = response.headers.get("Content-Type", "")
        codings = response.headers.get("Content-Encoding", "").lower().split(",")
        if not _CODINGS.issuperset(coding.strip() for coding in codings):
            raise MediaNotReady("packed in an unknown way")

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes: fewer only at the end, none after it."""
        import urllib3

        try:
            block: bytes = self._raw.read(size, decode_content=True)
        except urllib3.exceptions.DecodeError:
            raise MediaNotReady("packed in an unknown way") from None
        except (urllib3.exceptions.HTTPError, OSError):
            raise MediaNotReady("too slow" if time.monotonic() >= self._until else "cut short") from None
        self.excerpt.add(block)
        return block


@contextmanager
def download(url: str, settings: Settings, key: Mapping[str, str], until: float | None = None) -> Iterator[Download]:
    """
    Fetch the audio at an address of the PBX; `key` is the header that opens the PBX's origin, and reaches no other.

    Raises MediaRefused for a host or address that is not allowed, MediaNotReady when the file is not there yet or its
    server redirects to a host that is not allowed yet, and MediaUnreachable. No error's text holds the address.
    """
    until = until or time.monotonic() + LONGEST_SECONDS
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
    Return the address to ask for, by https where it came with http; its host is checked again when connecting.

    A relative one is the PBX's, or of the address that it was `redirected_by`. Raises MediaRefused for one that must
    not be asked for. A redirect to a host that MEDIA_HOSTS lacks is MediaNotReady, so that the file waits for the
    setting.
    """
    try:
        url = urljoin(redirected_by or settings.pbx_base_url, url)
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
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
    rest = url.partition("://")[2]
    return "https://" + (re.sub(r":80(?=[/?#]|$)", "", rest, count=1) if port == 80 else rest)


def _may_be_local(settings: Settings) -> bool:
    """True if media may come from this machine: only where the PBX itself is a simulator on it."""
    return not settings.in_azure and is_loopback(settings.pbx_host)


def _ask(url: str, settings: Settings, key: Mapping[str, str]) -> requests.Response:
    import requests

    session: Any = _session(allow_loopback=_may_be_local(settings))
    known = {} if session.should_strip_auth(settings.pbx_base_url, url) else key
    headers = {"Accept-Encoding": "identity", **known}
    try:
        response: requests.Response = session.get(
            url, headers=headers, timeout=_TIMEOUTS, stream=True, allow_redirects=False
        )
        return response
    except AddressRefused:
        raise MediaRefused("a private address") from None
    except ValueError:
        raise MediaRefused("not a URL") from None
    except (requests.RequestException, OSError):
        raise MediaUnreachable("out of reach") from None
