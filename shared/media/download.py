"""Fetching audio from the PBX: only from hosts that are allowed, whole or not at all, within bounded memory."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared.addresses import AddressRefused, guarded_session
from shared.errors import MediaNotReady, MediaRefused, MediaUnreachable
from shared.http_clients import ending_by, read_part
from shared.media.packing import LOOKED_AT, Wire, is_cut, packings, unpacked
from shared.once import once
from shared.setting_values import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from shared.settings import Settings

_TIMEOUTS = (5, 30)  # seconds to connect, and between two reads
_LONGEST_SECONDS = 25 * 60.0  # below the host's functionTimeout
_REDIRECTS = 3
_READ_BYTES = 512 * 1024
# The parts of an address, the scheme of one that may be relative, and a step of a relative path.
_URL = re.compile(r"^([^:]*)://([^/?#]*)([^?#]*)([^#]*)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_STEP = re.compile(r"(\.\.?)(?:/|(?=[?#])|$)")
_session = once(guarded_session)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may take: until when, in monotonic seconds, and at least how many bytes in so many seconds."""

    until: float = field(default_factory=lambda: time.monotonic() + _LONGEST_SECONDS)
    seconds: float = 60.0
    least: int = 64 * 1024


class Download:
    """An answer being read: `read` gives the next block; MediaNotReady where it turns out cut short, or too slow."""

    def __init__(self, response: requests.Response, patience: Patience) -> None:
        self._wire = Wire(response.raw)
        # What to read from; of what is packed by its server's word, only the first bytes show that.
        self._source: Any = None
        self._packings = packings(response.headers.get("Content-Encoding", ""))
        self._patience = patience
        # What was waited for lately, and what came in that time.
        self._waited, self._came = 0.0, 0
        length = response.headers.get("Content-Length", "")
        self._expected = int(length) if length.isascii() and length.isdecimal() else None
        self.content_type = response.headers.get("Content-Type", "")
        self.size = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes: fewer only at the end, none after it."""
        import urllib3

        parts: list[bytes] = []
        left = size
        try:
            if self._source is None:
                self._source = self._wire
                if self._packings:
                    self._unpack()
            # One read of the socket at a time, so that a drip is noticed.
            while left and (part := self._part(min(left, _READ_BYTES))):
                parts.append(part)
                left -= len(part)
        except urllib3.exceptions.DecodeError:
            raise MediaNotReady("packed in an unknown way") from None
        except (urllib3.exceptions.HTTPError, OSError):
            late = time.monotonic() >= self._patience.until
            raise MediaNotReady("too slow" if late else "cut short") from None
        self.size += size - left
        packed = self._source is not self._wire
        lacks_end = packed and is_cut(self._wire, self._packings, self.size)
        if left and (lacks_end or self._expected not in (None, self.size)):
            raise MediaNotReady("cut short")
        return b"".join(parts)

    def _unpack(self) -> None:
        """See whether what comes really is packed."""
        first = b""
        while len(first) < LOOKED_AT and (part := self._part(LOOKED_AT - len(first))):
            first += part
        self._wire.first = first
        self._source = unpacked(self._wire, first, self._packings)
        if self._source is not self._wire:
            # The length of what is packed says nothing of what comes out of it.
            self._expected = None

    def _part(self, size: int) -> bytes:
        began = time.monotonic()
        patience = self._patience
        part = read_part(self._source, size, patience.until)
        ended = time.monotonic()
        self._waited, self._came = self._waited + ended - began, self._came + len(part)
        if part and self._waited > patience.seconds:
            if self._came < patience.least:
                raise MediaNotReady("too slow")
            self._waited, self._came = 0.0, 0
        return part


def may_be_local(settings: Settings) -> bool:
    """Whether media may come from this machine: only where the PBX itself is a simulator on it."""
    return not settings.in_azure and is_loopback(settings.pbx_host)


def check_url(url: str, settings: Settings) -> None:
    """Raises MediaRefused unless audio may be fetched from this URL; its host's address is checked when connecting."""
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise MediaRefused("not a URL") from None
    if "@" in parts.netloc:
        raise MediaRefused("a user in the URL")
    if host not in settings.allowed_media_hosts:
        raise MediaRefused("a host outside MEDIA_HOSTS")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host) and may_be_local(settings)):
        raise MediaRefused("not https")


@contextmanager
def download(
    url: str, settings: Settings, key: Mapping[str, str], patience: Patience | None = None
) -> Iterator[Download]:
    """
    The audio at a URL of the PBX; `key` is the header that opens the PBX's host, and reaches no other.

    Raises MediaRefused for a host or address that is not allowed, after any redirect too, MediaNotReady when
    the file is not there yet, and MediaUnreachable when its server is out of reach. No error's text holds the URL.
    """
    patience = patience or Patience()
    for _ in range(_REDIRECTS + 1):
        with ending_by(patience.until):
            response = _ask(url, settings, key)
        with response:
            if not response.is_redirect:
                if response.status_code != HTTPStatus.OK:
                    raise MediaNotReady(f"answered {response.status_code}")
                yield Download(response, patience)
                return
            url = _target(url, response.headers["Location"])
    raise MediaRefused("too many redirects")


def _target(url: str, location: str) -> str:
    """
    Where a Location leads, which may be relative, byte by byte as it was given: signatures cover it.

    http.client takes each byte above ASCII for a character; here it is percent-encoded as the byte that it is.
    """
    location = "".join(character if character < "\x80" else f"%{ord(character):02X}" for character in location)
    scheme, host, path, query = _URL.findall(url)[0]
    if _SCHEME.match(location):
        return location
    if location.startswith("//"):
        return f"{scheme}:{location}"
    if location.startswith("?"):
        location = path + location
    elif not location.partition("#")[0]:
        location = path + query
    elif not location.startswith("/"):
        location = _joined(path, location)
    return f"{scheme}://{host}{location}"


def _joined(path: str, location: str) -> str:
    """A relative path behind another one's folder, `.` and `..` at its beginning aside (RFC 3986, 5.2.4)."""
    folder = path.rpartition("/")[0]
    while (step := _STEP.match(location)) is not None:
        location = location[step.end() :]
        if step[1] == "..":
            folder = folder.rpartition("/")[0]
    return f"{folder}/{location}"


def _ask(url: str, settings: Settings, key: Mapping[str, str]) -> requests.Response:
    import requests

    check_url(url, settings)
    headers = {"Accept-Encoding": "identity", **(key if _is_pbx(url, settings) else {})}
    session = _session(allow_loopback=may_be_local(settings))
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
