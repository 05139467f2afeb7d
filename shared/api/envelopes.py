"""The envelope of every answer under /api/v2, as the PBX writes it, and the continuations of paged answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared import people
from shared.api.parameters import Request, check
from shared.bridge import Bridge
from shared.errors import INVALID_CONTINUATION, Refused
from shared.pbx.fields import Shape
from shared.pbx.operations import Operation
from shared.storage.account import Storage
from shared.values import identifier

CONTINUATION = "continuation"
CONTINUATION_PATTERN = r"^[A-Za-z0-9_-]{1,1000}$"
DEFAULT_LIMIT = 50
_SEAL = 16
_TEXTS = ("string", "date-time")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """An envelope with its status and headers."""

    body: dict[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def succeeded(data: Any, status: int = 200) -> dict[str, Any]:
    """Return the app's own envelope around `data`."""
    return {"version": "v2", "status": "success", "statusCode": status, "message": "OK", "data": data}


def passed_on(operation: Operation, envelope: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Return the PBX's envelope around `data`, with defaults for missing fields; additional fields are kept."""
    sent = {name: value for name, value in envelope.items() if value is not None}
    texts = {name: str(sent[name]) for name in ("version", "status", "message") if name in sent}
    tidied = [tidy(item, operation.item) for item in data] if operation.lists else tidy(data, operation.item)
    return succeeded(None) | sent | texts | {"statusCode": 200, "data": tidied}


def tidy(item: Any, shape: Shape) -> Any:
    """Return an item with values of the types in the definition; empty values are null unless they are texts."""
    if not isinstance(item, dict):
        return item
    tidied = dict(item)
    for column in shape:
        value = tidied.get(column.name)
        if isinstance(value, list):
            tidied[column.name] = [tidy(part, column.fields) for part in value]
        elif column.type in _TEXTS and isinstance(value, bool | int | float):
            number = identifier(value)
            tidied[column.name] = json.dumps(value) if number is None else str(number)
        elif value == "" and column.type not in _TEXTS:
            tidied[column.name] = None
        elif column.type == "integer" and (number := identifier(value)) is not None:
            tidied[column.name] = number
    return tidied


def paged(
    bridge: Bridge,
    operation: Operation,
    request: Request,
    read: Callable[[Bridge, dict[str, Any], int, str | None], tuple[list[dict[str, Any]], str | None]],
) -> dict[str, Any]:
    """
    Return a page of an operation as an envelope, with `continuation` beside `data`: null at the end.

    `read` accepts the filters, the limit and the start of the page, and returns items and the start of the next page. A
    page before the last one may have fewer items, or none. Raises Refused.
    """
    values = check(operation, request, zone=bridge.settings.time_zone, also=(CONTINUATION,))
    limit, scope = values.pop("limit", DEFAULT_LIMIT), f"{operation.id} {sorted(values.items())}"
    items, follows = read(bridge, values, limit, start_of(bridge.storage, scope, request.query.get(CONTINUATION)))
    return succeeded(items) | {CONTINUATION: continuation(bridge.storage, scope, follows)}


def continuation(storage: Storage, scope: str, start: str | None) -> str | None:
    """Return the token of the next page for the same filters, which are the `scope`; None at the end."""
    if start is None:
        return None
    seal = people.digest(storage, f"page {scope} {start}")[:_SEAL]
    return base64.urlsafe_b64encode(f"{seal}{start}".encode()).decode().rstrip("=")


def start_of(storage: Storage, scope: str, text: str | None) -> str | None:
    """Return the start of a page from its token; raises Refused for an invalid token, or one of another scope."""
    if text is None:
        return None
    try:
        start = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)).decode()[_SEAL:]
    except ValueError:
        raise Refused(INVALID_CONTINUATION) from None
    if text != continuation(storage, scope, start):
        raise Refused(INVALID_CONTINUATION)
    return start
