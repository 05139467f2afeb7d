"""How the text of a setting is read; each reader raises ValueError with what to write instead."""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.times import iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

# 32 bytes; keys in the other alphabet of base64 work as well.
_FERNET_KEY = re.compile(r"[A-Za-z0-9_+/-]{43}=")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def flag(text: str) -> bool:
    """true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("write true or false")
    return text.lower() == "true"


def one_of(*words: str) -> Callable[[str], str]:
    """Return a reader of one of these words, in any letter case."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"write {', '.join(words[:-1])} or {words[-1]}")
        return text.lower()

    return read


def url(text: str) -> str:
    """A base URL, ending in a slash: https, or http for this machine only; empty where it is."""
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        known = parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        raise ValueError("write an https URL") from None
    if not known or parts.username or parts.query or parts.fragment:
        raise ValueError("write an https URL without user, password or query")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError("write an https URL (plain http only for this machine)")
    return text.rstrip("/") + "/"


def key(text: str) -> str:
    """An API key without the word Bearer."""
    key = re.sub(r"^bearer(\s+|$)", "", text.strip(), flags=re.IGNORECASE)
    if not key or not key.isprintable() or not key.isascii() or " " in key:
        raise ValueError("paste the key as the PBX's panel shows it")
    return key


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def fernet_keys(text: str) -> tuple[str, ...]:
    """Fernet keys separated by commas: URL-safe base64 of 32 bytes each."""
    keys = names(text)
    if not all(map(_FERNET_KEY.fullmatch, keys)):
        raise ValueError("write keys of 44 characters, URL-safe base64 of 32 random bytes, with commas between")
    return keys


def hosts(text: str) -> tuple[str, ...]:
    """Host names separated by commas, in lower case; neither URLs nor ports."""
    found = tuple(host.lower() for host in names(text))
    if not all(_HOST.fullmatch(host) for host in found):
        raise ValueError("write host names only, such as files.example.com")
    return found


def connection_string(text: str) -> str:
    """A storage account's connection string with a key or a signature, or the emulator's short one."""
    parts = {name.strip().lower(): value for name, _, value in (part.partition("=") for part in text.split(";"))}
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        return "UseDevelopmentStorage=true"
    try:
        signed = base64.b64decode(parts.get("accountkey", ""), validate=True) or parts.get("sharedaccesssignature")
    except ValueError:
        signed = None
    if not signed or not (parts.get("accountname") or parts.get("queueendpoint")):
        raise ValueError("copy the connection string from the storage account's access keys")
    return text


def endpoint(text: str) -> str:
    """The https address of a storage service."""
    if not url(text).startswith("https://"):
        raise ValueError("write an https URL: an identity is never shown over plain http")
    return text


def region(text: str) -> str:
    """A country code of two letters."""
    if len(text) != 2 or not (text.isalpha() and text.isascii()):
        raise ValueError("write a country code of two letters, such as LV")
    return text.upper()


def zone(text: str) -> ZoneInfo:
    """A time zone by its IANA name."""
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(text)
    except (ValueError, OSError):
        raise ValueError("write the IANA name of a time zone, such as Europe/Riga") from None


def countries(text: str) -> tuple[str, ...]:
    """Country codes of two letters, separated by commas."""
    return tuple(region(name) for name in names(text))


def _whole(unit: str, least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers of a unit, from one to another."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"write {unit} from {least} to {most}")
        return int(text)

    return read


hours = _whole("whole hours", 1, 24 * 31)
seconds = _whole("whole seconds", 1, 24 * 3600)
months = _whole("whole months", 0, 100 * 12)
count = _whole("a whole number", 0, 1_000_000)


def start(text: str) -> str:
    """Where the first poll begins: now, all, or an ISO time."""
    if text in ("now", "all"):
        return text
    try:
        return iso(parse_time(text))
    except ValueError as error:
        raise ValueError("write now, all, or an ISO date") from error
