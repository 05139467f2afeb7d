"""Callback addresses: which are accepted, how they are compared, and how much of them is shown."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from urllib.parse import urlsplit

from shared.http import is_public, request_target

# Logic Apps' callback addresses carry a signature and grow long.
LONGEST = 4096
_PORTS = {"https": ":443", "http": ":80"}
_PRINTABLE = re.compile(r"[!-~]+")
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


def check_endpoint(url: str, *, allow_loopback: bool) -> None:
    """
    Raise ValueError unless events may be posted to this address: https, and no user before the host.

    `allow_loopback` accepts this machine as well, by http too. Which address a name leads to is checked when it is
    connected to.
    """
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise ValueError("an https address is expected") from None
    is_here = is_special = host == "localhost"
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        is_here, is_special = address.is_loopback and address.version == 4, not is_public(address)
    is_allowed = allow_loopback and is_here
    if parts.scheme != "https" and not (is_allowed and parts.scheme == "http"):
        raise ValueError("an https address is expected")
    if not host or "@" in parts.netloc or not _PRINTABLE.fullmatch(url) or len(url) > LONGEST:
        raise ValueError(f"an https address without user and blanks is expected, of at most {LONGEST} characters")
    if is_special and not is_allowed:
        raise ValueError("the host is not on the internet")


def is_workflow_host(url: str) -> bool:
    """Return True if Logic Apps or Power Automate listens there."""
    return (urlsplit(url).hostname or "").rstrip(".").endswith(WORKFLOW_HOSTS)


def host_of(url: str) -> str:
    """Return the host, with its port where one is named: all of a callback address that may be shown."""
    return urlsplit(url).netloc.rpartition("@")[2]


def normalised(url: str) -> str:
    """
    Return the form in which addresses are compared: scheme and host in small letters, without the standard port.

    The rest stays byte by byte, and so does an address that cannot be read.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    host = parts.netloc.lower().removesuffix(_PORTS.get(parts.scheme, ":"))
    return f"{parts.scheme}://{host}{request_target(url)}" if host else url
