"""HTTP sessions with bounded answers, short-lived connections, and checks of the addresses they connect to."""

from __future__ import annotations

import io
import ipaddress
import logging
import math
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import requests

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LONGEST_WAIT = 24 * 3600
# Balancers forget an idle connection after minutes, some of them in silence.
LONGEST_IDLE_SECONDS = 60.0
_until: ContextVar[float | None] = ContextVar("until", default=None)

_INTERNET = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# The ipaddress module takes these networks for public.
_INSIDE = (
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's own host, reachable from inside it only
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("192.88.99.0/24"),
    # Protocol assignments and documentation, which some versions of Python take for public.
    ipaddress.IPv6Network("2001::/23"),
    ipaddress.IPv6Network("2001:db8::/32"),
    ipaddress.IPv6Network("3fff::/20"),
)
# The number of subscribers and media hosts to which connections are kept, and of connections to each.
_HOSTS, _CONNECTIONS = 256, 32
_UNSENDABLE = re.compile(r"[^!-~]+")
# The header that carries the target to the connection, which removes it.
_TARGET = "x-request-target"


class AddressRefused(ValueError):
    """The other side has a private, loopback, link-local or otherwise special address."""


def is_public(address: Address) -> bool:
    """Return True if the address, or the IPv4 address that it wraps, belongs to the internet."""
    if isinstance(address, ipaddress.IPv6Address):
        translated = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
        inner = address.ipv4_mapped or address.sixtofour or translated
        if inner is not None:
            return is_public(inner)
        if address not in _INTERNET:
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _INSIDE)


def is_loopback(host: str | None) -> bool:
    """Return True if a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def request_target(url: str) -> str:
    """
    Return path and query of a URL byte by byte, since signatures cover them.

    Only blanks, control characters and letters beyond ASCII are percent-encoded.
    """
    target = re.sub("^[^/?]*", "", url.partition("://")[2].partition("#")[0])
    target = target if target.startswith("/") else f"/{target}"
    return _UNSENDABLE.sub(lambda unsendable: quote(unsendable[0]), target)


@contextmanager
def ending_by(until: float) -> Iterator[None]:
    """Bound all requests that this thread makes inside: connecting and answers end by `until` (monotonic seconds)."""
    token = _until.set(until)
    try:
        yield
    finally:
        _until.reset(token)


def plain_session(
    *,
    hosts: int,
    connections: int,
    idle_seconds: float = LONGEST_IDLE_SECONDS,
    check: Callable[[Address], object] | None = None,
    kind: type[requests.Session] | None = None,
) -> requests.Session:
    """
    Return a session that keeps connections to at most `hosts` hosts, at most `connections` to each.

    A connection that was idle for `idle_seconds` is not used again; with 0 each request makes its own. `check` raises
    AddressRefused for an address that must not be connected to. Requests respect `ending_by`. The machine's proxies and
    .netrc are not used, and no cookie is kept.
    """
    from http.cookiejar import DefaultCookiePolicy

    import requests
    from requests.adapters import HTTPAdapter

    # At DEBUG it logs every request's query.
    logging.getLogger("urllib3").setLevel(logging.INFO)
    session = (kind or requests.Session)()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for name in ("http", "https"):
        adapter = HTTPAdapter(pool_connections=hosts, pool_maxsize=connections)
        manager: Any = vars(adapter)["poolmanager"]
        pool = manager.pool_classes_by_scheme[name]
        connection = _connection(pool.ConnectionCls, idle_seconds, check)
        manager.pool_classes_by_scheme = {name: type("Pool", (pool,), {"ConnectionCls": connection})}
        session.mount(f"{name}://", adapter)
    return session


def guarded_session(*, allow_loopback: bool) -> requests.Session:
    """
    Return a session that connects to public addresses only, and to this machine with `allow_loopback`.

    The address itself is judged, so that no name can lead inside. URLs are asked for as `request_target` returns them,
    and no redirect is followed.
    """
    import requests

    class Session(requests.Session):
        def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
            prepared = super().prepare_request(request)
            prepared.headers[_TARGET] = request_target(str(request.url))
            return prepared

        def get_redirect_target(self, resp: requests.Response) -> None:
            # requests reads the whole body of an answer with a target, even if it does not follow it.
            return None

    def check(address: Address) -> None:
        if not is_public(address) and not (allow_loopback and address.is_loopback):
            raise AddressRefused("not a public address")

    return plain_session(hosts=_HOSTS, connections=_CONNECTIONS, check=check, kind=Session)


def _connection(base: Any, idle_seconds: float, check: Callable[[Address], object] | None) -> Any:
    """Return a class of urllib3 connections that respect `ending_by` and count as dropped after `idle_seconds`."""
    from http.client import HTTPResponse

    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    class Response(HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            if (until := _until.get()) is not None:
                self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, until))

    class Connection(base):  # type: ignore[misc]
        response_class = Response
        used = -math.inf

        @property
        def is_connected(self) -> bool:
            return time.monotonic() - self.used < idle_seconds and bool(super().is_connected)

        def _new_conn(self) -> socket.socket:
            try:
                return _connect(self._dns_host, self.port, self.timeout, self.socket_options, check)
            except TimeoutError as error:
                raise ConnectTimeoutError(self, "no connection in time") from error
            except OSError as error:
                raise NewConnectionError(self, "no connection") from error

        def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
            self.used, sent = time.monotonic(), dict(headers or {})
            super().request(method, sent.pop(_TARGET, url), body, sent, **options)

    return Connection


def _connect(
    host: str, port: int, timeout: float | None, options: Any, check: Callable[[Address], object] | None
) -> socket.socket:
    """Return a connection to the first of a host's addresses that accepts one, within the time of `ending_by`."""
    until, failed = _until.get() or math.inf, OSError("the name has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM):
        if check:
            check(ipaddress.ip_address(str(address[0]).partition("%")[0]))
        left = min(timeout or math.inf, until - time.monotonic())
        if left <= 0:
            raise TimeoutError("no connection in time")
        connection = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                connection.setsockopt(*option)
            connection.settimeout(None if left == math.inf else left)
            connection.connect(address)
        except OSError as error:
            connection.close()
            failed = error
        else:
            return connection
    raise failed


class _Timed(io.RawIOBase):
    """A socket's stream whose reads time out at `until`, in monotonic seconds."""

    def __init__(self, raw: Any, sock: Any, until: float) -> None:
        self._raw, self._sock, self._until = raw, sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left, usual = self._until - time.monotonic(), self._sock.gettimeout()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left if usual is None else min(left, usual))
        try:
            count: int | None = self._raw.readinto(buffer)
        finally:
            self._sock.settimeout(usual)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def retry_after(text: str | None) -> int | None:
    """Return the seconds of a Retry-After header, a number or a date, at most a day; None without either."""
    from email.utils import parsedate_to_datetime

    text = (text or "").strip()
    if text.isascii() and text.isdecimal():
        return min(int(text[:9]), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(math.ceil(seconds), 0), LONGEST_WAIT)
