"""The wrapping of every answer under /api/v2, as the PBX writes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.identifiers import identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.pbx.fields import Shape
    from shared.pbx.operations import Operation

VERSION = "v2"


def succeeded(data: Any, status: int = 200) -> dict[str, Any]:
    """Return an answer of our own around `data`."""
    return {"version": VERSION, "status": "success", "statusCode": status, "message": "OK", "data": data}


def refused(status: int, message: str, fields: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a refusal in words; `fields` has the reason for each field that does not fit."""
    wrapped = {"version": VERSION, "status": "error", "statusCode": status, "message": message, "data": None}
    if fields:
        return wrapped | {"errors": [{"path": path, "reason": reason} for path, reason in fields.items()]}
    return wrapped


def passed_on(operation: Operation, wrapper: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Return the PBX's own wrapping around `data`, its missing fields filled in and its additions kept."""
    sent = {name: value for name, value in wrapper.items() if value is not None}
    texts = {name: str(sent[name]) for name in ("version", "status", "message") if name in sent}
    tidied = [tidy(item, operation.item) for item in data] if operation.lists else tidy(data, operation.item)
    return succeeded(None) | sent | texts | {"statusCode": 200, "data": tidied}


def tidy(item: Any, shape: Shape) -> Any:
    """
    Return an item as the definition has it: absent fields as null, whole numbers as numbers and texts as texts.
    """
    if not isinstance(item, dict):
        return item
    tidied = dict(item)
    for field in shape:
        value = tidied.get(field.name)
        if value == "" and field.type not in ("string", "date-time"):
            tidied[field.name] = None
        elif field.type == "integer" and isinstance(value, str | float):
            number = identifier(value)
            tidied[field.name] = value if number is None else number
        elif field.type in ("string", "date-time") and isinstance(value, bool | int | float):
            number = identifier(value)
            tidied[field.name] = json.dumps(value) if number is None else str(number)
        elif isinstance(value, list):
            tidied[field.name] = [tidy(part, field.fields) for part in value]
    return tidied
