"""What an item says, without what differs between equal answers: by it, an edit differs from another spelling."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from shared.identifiers import identifier
from shared.times import iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:")
_ROOTED = re.compile(r"(?:https?:/)?/", re.IGNORECASE)
_BLANK = re.compile(r"\s")
# Parameters that sign an address, or say until when it works: another value leads to the same thing.
_SIGNING_PARTS = ("signature", "signed", "expires", "expiry", "expiration", "token", "valid_until", "validuntil")
_SIGNING_BEGINS = (
    *("x-amz-", "x-goog-", "x-oss-", "x-ms-", "x-cos-", "x-obs-"),
    *("q-sign", "q-key", "q-ak", "__gda", "__hdn", "hdn"),
)
_NAMES = """
    awsaccesskeyid ossaccesskeyid googleaccessid key-pair-id keyname policy hmac hash digest md5 sign auth authorization
    auth_key access_key accesskey nonce jwt verify valid_from ttl sig se st sp spr sv sr sip si sdd ss srt skoid sktid
    skt ske sks skv saoid suoid scid exp expire ts timestamp wssecret wstime q-header-list q-url-param-list
    ex is hm oh oe
"""
_SIGNING = frozenset(_NAMES.split())


def content_hash(item: Mapping[str, Any]) -> str:
    """SHA-256 of the item's canonical JSON, in hex."""
    text = json.dumps(canonical(item), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> Any:
    """
    The value without what differs between equal answers: absence, order, signatures, spellings of times and ids.

    A list that was written as an object with the places as names is a list.
    """
    if isinstance(value, dict):
        there = {name: part for name, part in value.items() if part is not None and part != ""}
        # Nothing is nothing, as an object or as a list.
        value = list(there.values()) if _is_list(there) else there
    if isinstance(value, dict):
        return {name: _number(name, canonical(part)) for name, part in value.items()}
    if isinstance(value, list):
        return sorted((canonical(part) for part in value), key=lambda part: json.dumps(part, sort_keys=True))
    if isinstance(value, str) and _TIME.match(value):
        try:
            return iso(parse_time(value).replace(microsecond=0))
        except ValueError:
            return value
    return _unsigned(value) if isinstance(value, str) else value


def _is_list(value: Mapping[str, Any]) -> bool:
    """Whether names are places: all of them from 0 on, or some of a list of objects from which others went."""
    if not all(name.isdecimal() and name.isascii() and len(name) < 10 for name in value):
        return False
    whole = {int(name) for name in value} == set(range(len(value)))
    return whole or all(isinstance(part, dict) for part in value.values())


def _number(name: str, value: Any) -> Any:
    """An identifier as its number, however it is written."""
    number = identifier(value) if name.lower().endswith("id") else None
    return value if number is None else number


def _unsigned(text: str) -> str:
    """An address without the parameters that sign it, what is left in one order; any other text as it is."""
    place, _, query = text.strip().partition("?")
    if not query or _BLANK.search(query) or not _is_place(place):
        return text
    kept = sorted(part for part in query.split("&") if part and not _signs(part.partition("=")[0].lower()))
    return "?".join((place, "&".join(kept))) if kept else place


def _is_place(text: str) -> bool:
    """Whether a text is an address or a path; one that does not begin at the root has no blanks."""
    return bool(_ROOTED.match(text)) or (("/" in text or "." in text) and not _BLANK.search(text))


def _signs(name: str) -> bool:
    return name in _SIGNING or name.startswith(_SIGNING_BEGINS) or any(part in name for part in _SIGNING_PARTS)
