"""Canonical form and content hash of an item, and its drift from the PBX's reference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any
from unicodedata import normalize

from shared.pbx.fields import Field, Shape
from shared.times import event_time
from shared.values import e164, identifier, is_spoilt

# Fields that hold a number to be called at.
NUMBERS = ("number", "caller", "destination", "sender", "current_callerid")
_WORDS = {"true": "1", "false": "0"}
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def content_hash(item: Mapping[str, Any], shape: Shape, region: str) -> str:
    """
    Return the SHA-256 of the item's canonical JSON, in hex.

    Only fields of the PBX's reference count. Differences between equal answers do not: absent fields, order, the query
    of an address, and spellings of numbers, times and texts.
    """
    return hashlib.sha256(_encode(_fields(item, shape, region)).encode()).hexdigest()


def _fields(item: Mapping[str, Any], shape: Shape, region: str) -> dict[str, Any]:
    fields = {field.name: _canonical(item.get(field.name), field, region) for field in shape}
    return {name: value for name, value in fields.items() if value}


def _canonical(value: Any, field: Field, region: str) -> Any:
    """Return the canonical form of a value: a text, a sorted list, or an object; empty if it has no content."""
    if isinstance(value, dict):
        return _fields(value, field.fields, region)
    if isinstance(value, list):
        return sorted((found for part in value if (found := _canonical(part, field, region))), key=_encode)
    text = "" if value is None else normalize("NFC", str(value)).strip()
    if field.type == "integer":
        number = identifier(_WORDS.get(text.lower(), text))
        return text if number is None else str(number)
    if field.type == "date-time":
        moment = event_time(text)
        return str(int(moment.timestamp())) if moment else text
    if field.name in NUMBERS:
        return e164(text, region) or text
    head, query, _ = text.partition("?")
    # An address is compared without its query, which may be a signature of the moment.
    return head if query and "/" in head and text.split() == [text] else text


def drift(item: Mapping[str, Any], shape: Shape) -> set[str]:
    """
    Return the names of an item's fields that the PBX's reference does not know, or whose values do not fit it.

    Inner fields have both names: `members.contactID`. `encoding` is added if characters could not be read.
    """
    return {*_drift(item, shape), *(["encoding"] if is_spoilt(item) else [])}


def _drift(item: Mapping[str, Any], shape: Shape) -> Iterator[str]:
    known = {field.name: field for field in shape}
    for name, value in item.items():
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if name not in known or not _fits(value, known[name].type):
            yield name
        elif known[name].type == "array":
            yield from (f"{name}.{inner}" for part in value for inner in _drift(part, known[name].fields))


def _fits(value: Any, kind: str) -> bool:
    if kind == "integer":
        return identifier(value) is not None or type(value) is int
    if kind == "date-time":
        return event_time(value) is not None
    if kind == "array":
        return isinstance(value, list) and all(isinstance(part, dict) for part in value)
    return isinstance(value, str | int | float) and not isinstance(value, bool)
