"""Where the app may connect to on others' word: public addresses, checked on the connection itself."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(Exception):
    """The other side is a private, loopback, link-local or otherwise special address."""


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, also where IPv6 only wraps an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour or _translated(address)
        if wrapped is not None:
            return is_public(wrapped)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    in_nat64 = address in ipaddress.IPv6Network("64:ff9b::/96")
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if in_nat64 else None


def is_allowed(address: Address, *, allow_loopback: bool) -> bool:
    """Whether to talk to an address; `allow_loopback` lets this machine in beside the internet."""
    return is_public(address) or (allow_loopback and address.is_loopback)


def guarded_session(*, allow_loopback: bool, connections: int = 32) -> requests.Session:
    """
    A session that refuses a connection by the address it really has, so that no name can point it inside.

    AddressRefused is raised before a byte is sent. Proxies and .netrc of the machine are not used, no cookie is kept.
    """
    from http.cookiejar import DefaultCookiePolicy

    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Guarded(HTTPConnection):
        def _new_conn(self) -> Any:
            return _checked(super()._new_conn(), allow_loopback=allow_loopback)

    class GuardedTls(HTTPSConnection):
        def _new_conn(self) -> Any:
            return _checked(super()._new_conn(), allow_loopback=allow_loopback)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Guarded

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = GuardedTls

    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        adapter = HTTPAdapter(pool_connections=8, pool_maxsize=connections)
        adapter.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
        session.mount(scheme, adapter)
    return session


def _checked(socket: Any, *, allow_loopback: bool) -> Any:
    address = ipaddress.ip_address(socket.getpeername()[0].partition("%")[0])
    if not is_allowed(address, allow_loopback=allow_loopback):
        socket.close()
        raise AddressRefused("not a public address")
    return socket
