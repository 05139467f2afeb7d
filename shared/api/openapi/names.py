"""Named schemas: generators make a class of each, so every shape is described once and referred to elsewhere."""

from __future__ import annotations

from typing import Any

_NAME = "$name"

Schema = dict[str, Any]


def named(name: str, schema: Schema) -> Schema:
    """The schema, to be put under `definitions` by this name wherever it stands."""
    return {_NAME: name} | schema


def is_named(schema: Schema) -> bool:
    """Whether a reference will stand in its place, beside which nothing counts."""
    return _NAME in schema


def hoisted(value: Any, definitions: Schema) -> Any:
    """
    The value with references in place of its named schemas, which are added to `definitions`.

    Raises ValueError where two that differ have one name.
    """
    if isinstance(value, list):
        return [hoisted(part, definitions) for part in value]
    if not isinstance(value, dict):
        return value
    whole = {key: hoisted(part, definitions) for key, part in value.items() if key != _NAME}
    if _NAME not in value:
        return whole
    name = value[_NAME]
    if definitions.setdefault(name, whole) != whole:
        raise ValueError(f"two schemas are called {name}")
    return {"$ref": f"#/definitions/{name}"}
