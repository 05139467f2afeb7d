"""Fetches audio from the PBX: from allowed hosts only, whole or not at all, within bounded time and memory."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from shared.errors import MediaNotReady, MediaRefused, MediaUnreachable
from shared.http import AddressRefused, ending_by, guarded_session, read_part
from shared.once import once
from shared.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from shared.settings import Settings

_TIMEOUTS = (5, 30)  # seconds to connect, and between two reads
LONGEST_SECONDS = 25 * 60.0  # below the host's functionTimeout
_REDIRECTS = 3
_READ_BYTES = 512 * 1024
# Content codings that the HTTP library undoes, and names of none; some storages keep a word of their upload.
_CODINGS = frozenset({"gzip", "x-gzip", "deflate", "identity", "none", "aws-chunked", ""})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_session = once(guarded_session)


class Download:
    """An answer being read `until` a time; raises MediaNotReady for a file that is cut short or comes too slowly."""

    def __init__(self, response: requests.Response, until: float) -> None:
        self._raw, self._until, self.size = response.raw, until, 0
        self.content_type = response.headers.get("Content-Type", "")
        codings = response.headers.get("Content-Encoding", "").lower().split(",")
        if not _CODINGS.issuperset(coding.strip() for coding in codings):
            raise MediaNotReady("packed in an unknown way")

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes: fewer only at the end, none after it."""
        import urllib3

        parts: list[bytes] = []
        left = size
        try:
            # One read of the socket at a time, so that a drip ends in time.
            while left and (part := read_part(self._raw, min(left, _READ_BYTES), self._until)):
                parts.append(part)
                left -= len(part)
        except urllib3.exceptions.DecodeError:
            raise MediaNotReady("packed in an unknown way") from None
        except (urllib3.exceptions.HTTPError, OSError):
            raise MediaNotReady("too slow" if time.monotonic() >= self._until else "cut short") from None
        self.size += size - left
        return b"".join(parts)


@contextmanager
def download(url: str, settings: Settings, key: Mapping[str, str], until: float | None = None) -> Iterator[Download]:
    """
    Fetch the audio at an address of the PBX; `key` is the header that opens the PBX's origin, and reaches no other.

    Raises MediaRefused for a host or address that is not allowed, MediaNotReady when the file is not there yet or its
    server redirects to a host that is not allowed yet, and MediaUnreachable. No error's text holds the address.
    """
    until = until or time.monotonic() + LONGEST_SECONDS
    url = allowed(_joined(settings.pbx_base_url, url.strip().replace("&amp;", "&")), settings)
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
            location = response.headers["Location"].encode("latin-1")
            target = "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in location)
            url = allowed(_joined(url, target), settings, redirected=True)
    raise MediaRefused("too many redirects")


def allowed(url: str, settings: Settings, *, redirected: bool = False) -> str:
    """
    Return the address to ask for, by https where it came with http; its host is checked again when connecting.

    Raises MediaRefused for one that must not be asked for. A host that is `redirected` to and that MEDIA_HOSTS lacks is
    MediaNotReady, so that the file waits for the setting.
    """
    try:
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
        raise MediaNotReady(f"redirected, and {reason}") if redirected else MediaRefused(reason)
    if parts.scheme == "https" or (is_loopback(host) and _may_be_local(settings)):
        return url
    rest = url.partition("://")[2]
    return "https://" + (re.sub(r":80(?=[/?#]|$)", "", rest, count=1) if port == 80 else rest)


def _may_be_local(settings: Settings) -> bool:
    """True if media may come from this machine: only where the PBX itself is a simulator on it."""
    return not settings.in_azure and is_loopback(settings.pbx_host)


def _ask(url: str, settings: Settings, key: Mapping[str, str]) -> requests.Response:
    import requests

    headers = {"Accept-Encoding": "identity", **(key if _is_pbx(url, settings) else {})}
    session = _session(allow_loopback=_may_be_local(settings))
    try:
        return session.get(url, headers=headers, timeout=_TIMEOUTS, stream=True, allow_redirects=False)
    except AddressRefused:
        raise MediaRefused("a private address") from None
    except ValueError:
        raise MediaRefused("not a URL") from None
    except (requests.RequestException, OSError):
        raise MediaUnreachable("out of reach") from None


def _is_pbx(url: str, settings: Settings) -> bool:
    def origin(text: str) -> tuple[str, str | None, int | None]:
        parts = urlsplit(text)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)

    return origin(url) == origin(settings.pbx_base_url)


def _joined(url: str, location: str) -> str:
    """Return the address that a Location leads to, which may be relative, byte by byte: signatures cover it."""
    parts = urlsplit(url)
    if _SCHEME.match(location):
        return location
    if location.startswith("//"):
        return f"{parts.scheme}:{location}"
    if location.startswith("/"):
        return f"{parts.scheme}://{parts.netloc}{location}"
    return urljoin(url, location)
