"""Continuations of lists: where the next page starts, sealed with the filters that it belongs to."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from shared import people
from shared.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.account import Storage

CONTINUATION = "continuation"
PATTERN = r"^[A-Za-z0-9_-]{1,1000}$"
_SEAL = 16


def continuation(storage: Storage, operation: str, filters: Mapping[str, Any], start: str | None) -> str | None:
    """Return what the next request of an operation sends with the same filters; None at the end."""
    if start is None:
        return None
    sealed = _seal(storage, operation, filters, start) + start
    return base64.urlsafe_b64encode(sealed.encode()).decode().rstrip("=")


def start_of(storage: Storage, operation: str, filters: Mapping[str, Any], text: str | None) -> str | None:
    """Return where a page starts; raises Invalid for a continuation of other filters, or one that is not ours."""
    if text is None:
        return None
    try:
        sealed = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        sealed = ""
    seal, start = sealed[:_SEAL], sealed[_SEAL:]
    if seal != _seal(storage, operation, filters, start):
        raise Invalid({CONTINUATION: "Invalid continuation token: send the last answer's, with the same filters"})
    return start


def _seal(storage: Storage, operation: str, filters: Mapping[str, Any], start: str) -> str:
    said = json.dumps([operation, {name: str(value) for name, value in filters.items()}, start], sort_keys=True)
    return people.digest(storage, f"page {said}")[:_SEAL]
