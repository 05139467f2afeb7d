"""A definition with every reference replaced by its schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def whole(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition without references."""
    resolved: dict[str, Any] = _resolved(definition, definition["definitions"])
    return resolved


def inside(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside, with its own."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(part)


def _resolved(value: Any, names: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_resolved(part, names) for part in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        assert value.keys() == {"$ref"}, "what stands beside a reference counts for nothing"
        return _resolved(names[value["$ref"].removeprefix("#/definitions/")], names)
    return {key: _resolved(part, names) for key, part in value.items()}
