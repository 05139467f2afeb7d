"""The addresses that subscribers give: which are taken, and what kind of host stands behind them."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared.http import is_public, request_target, wrapped

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from shared.http import Address

# Logic Apps' callback addresses carry a signature and grow long.
LONGEST = 4096
# A name server may say nothing for longer than anybody waits for an answer.
LOOKUP_SECONDS = 3.0
_PORTS = {"https": 443, "http": 80}
_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
_PRINTABLE = re.compile(r"[!-~]+")
# A name; anything else that may stand for a host is understood differently from library to library.
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
LONGEST_NAME = 254
# What ends so is an address, of which there are many spellings: one of them is taken.
_ENDS_AS_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
# Behind these a 404 means that the workflow, or its run, is gone for good.
WORKFLOW_HOSTS = (
    ".logic.azure.com",
    ".logic.azure.us",
    ".logic.azure.cn",
    ".azure-apihub.net",
    ".azure-apim.net",
    ".api.powerplatform.com",
    ".powerautomate.com",
    ".flow.microsoft.com",
)


def is_workflow_host(url: str) -> bool:
    """Whether Logic Apps or Power Automate listens there."""
    return (urlsplit(url).hostname or "").rstrip(".").endswith(WORKFLOW_HOSTS)


def host_of(url: str) -> str:
    """The host, with its port where one is named: all of a callback address that may be shown."""
    return urlsplit(url).netloc.rpartition("@")[2]


def normalised(url: str) -> str:
    """
    The address as it is compared: scheme and host in small letters, no port where it says nothing, no dot at the end.

    The rest is left as it is, byte by byte. What is no address is compared as it is.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return url
    scheme, rest = parts.scheme.lower(), request_target(url)
    if not host or not scheme:
        return url
    if ":" in host:
        with suppress(ValueError):
            host = f"[{ipaddress.ip_address(host).compressed}]"
    return f"{scheme}://{host}{'' if port in (None, _PORTS.get(scheme)) else f':{port}'}{rest}"


def check_endpoint(url: str, *, allow_loopback: bool) -> None:
    """
    Raises ValueError, with what is wrong, unless events may be posted to this address.

    It is https, without user and fragment, at most 4,096 characters, and its host is public as far as its name, which
    has a dot, can be resolved now; the connection is checked again at each delivery. `allow_loopback` takes 127.0.0.0/8
    beside that, and plain http there and nowhere else.
    """
    if len(url) > LONGEST:
        raise ValueError(f"at most {LONGEST} characters are taken")
    parts = _split(url)
    host = (parts.hostname or "").rstrip(".")
    _check_host(parts)
    addresses = _addresses(host)
    local = allow_loopback and bool(addresses) and all(address in _LOOPBACK for address in addresses)
    if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not local):
        raise ValueError("an https address is expected")
    is_alone = not local and not {".", ":"} & set(host)
    taken = (is_public(address) or (allow_loopback and address in _LOOPBACK) for address in addresses)
    if is_alone or not all(taken):
        raise ValueError("its host is not on the internet")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("an https address is expected") from None
    if not _PRINTABLE.fullmatch(url) or not host or port == 0 or "\\" in url:
        raise ValueError("an https address is expected")
    if "@" in parts.netloc:
        raise ValueError("an address without user and password is expected")
    if parts.fragment:
        raise ValueError("an address without a fragment is expected")
    return parts


def _check_host(parts: SplitResult) -> None:
    """Raise ValueError unless the host is a name, four numbers with dots, or an IPv6 address that stands for itself."""
    host = parts.hostname or ""
    try:
        if "[" in parts.netloc:
            if "%" in host or wrapped(ipaddress.IPv6Address(host)):
                raise ValueError
        elif not _NAME.fullmatch(host) or len(host) > LONGEST_NAME:
            raise ValueError
        elif _ENDS_AS_NUMBER.fullmatch(host):
            ipaddress.IPv4Address(host.rstrip("."))
    except ValueError:
        raise ValueError("a host is expected that is a name or an address in its usual spelling") from None


def _addresses(host: str) -> set[Address]:
    """What the host stands for; nothing where its name cannot be resolved now."""
    found: list[Any] = []

    def look() -> None:
        try:
            found.extend(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            return

    # No look-up can be given a time to end.
    looking = Thread(target=look, daemon=True)
    looking.start()
    looking.join(LOOKUP_SECONDS)
    # A name may stand for ::1 beside 127.0.0.1.
    addresses = {ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in tuple(found)}
    ours = host == "localhost"
    return {address for address in addresses if not (ours and address.is_loopback and address.version == 6)}
