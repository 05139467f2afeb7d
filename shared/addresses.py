"""Where the app may connect to on others' word: public addresses, checked on the connection itself."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shared.http_clients import plain_session, timely

if TYPE_CHECKING:
    import socket

    import requests

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_INTERNET = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# The ipaddress module takes these for addresses of the internet.
_INSIDE = (
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's own host, reachable from inside it only
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("192.88.99.0/24"),
    # Protocols' own and examples; which of them count as the internet's differs from one Python to the next.
    ipaddress.IPv6Network("2001::/23"),
    ipaddress.IPv6Network("2001:db8::/32"),
    ipaddress.IPv6Network("3fff::/20"),
)
# Connections are kept to so many hosts, and so many to each.
_HOSTS, _CONNECTIONS = 256, 32
# What cannot stand in a request line.
_UNSENDABLE = re.compile(r"[^!-~]+")
# Carries the target to the connection, which takes it off again.
_TARGET = "x-request-target"


class AddressRefused(ValueError):
    """The other side is a private, loopback, link-local or otherwise special address."""


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, also where IPv6 only wraps an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = wrapped(address)
        if inner is not None:
            return is_public(inner)
        if address not in _INTERNET:
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _INSIDE)


def wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one only stands for, if it does."""
    translated = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    return address.ipv4_mapped or address.sixtofour or translated


def request_target(url: str) -> str:
    """
    Path and query of a URL as they were given: signatures cover them byte by byte.

    Only what cannot stand in a request line (blanks, control characters, other than ASCII) is percent-encoded.
    """
    target = re.sub("^[^/?]*", "", url.partition("://")[2].partition("#")[0])
    target = target if target.startswith("/") else f"/{target}"
    return _UNSENDABLE.sub(lambda unsendable: quote(unsendable[0]), target)


def guarded_session(*, allow_loopback: bool) -> requests.Session:
    """
    A session that refuses a connection by the address it really has, so that no name can point it inside.

    A `timely` one otherwise. AddressRefused is raised before a byte is sent; `allow_loopback` lets this machine in
    beside the internet. Addresses are asked for as `request_target` has them, and no redirect is followed: where it
    leads has to be judged first.
    """
    import requests
    from urllib3.connection import HTTPConnection

    class Guarded(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _checked(super()._new_conn(), allow_loopback=allow_loopback)

        def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
            given = dict(headers or {})
            super().request(method, given.pop(_TARGET, url), body, given, **options)

    class Session(requests.Session):
        def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
            prepared = super().prepare_request(request)
            prepared.headers[_TARGET] = request_target(str(request.url))
            return prepared

        def get_redirect_target(self, resp: requests.Response) -> None:
            # Even where it does not follow, requests reads the whole body of an answer with a target.
            return None

    return timely(plain_session(hosts=_HOSTS, connections=_CONNECTIONS, kind=Session), Guarded)


def _checked(connection: socket.socket, *, allow_loopback: bool) -> socket.socket:
    address = ipaddress.ip_address(connection.getpeername()[0].partition("%")[0])
    if not is_public(address) and not (allow_loopback and address.is_loopback):
        connection.close()
        raise AddressRefused("not a public address")
    return connection
