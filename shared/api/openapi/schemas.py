"""Shapes as OpenAPI 2.0 schemas: items, envelopes, bodies and refusals, each from the table that defines it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from shared.api.list_actions import TITLE
from shared.api.openapi.names import Schema, is_named, named
from shared.api.parameters import rule
from shared.pbx.fields import ENVELOPE, Field, Shape
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from shared.pbx.operations import Operation, Parameter
    from shared.pbx.resources import Resource

_TYPES: Mapping[str, Schema] = {
    "integer": {"type": "integer", "format": "int64"},
    "number": {"type": "number", "format": "double"},
    "boolean": {"type": "boolean"},
    # No format: the PBX writes offsets without a colon, and nothing at all for what has not happened.
    "date-time": {"type": "string"},
    "string": {"type": "string"},
}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
_TITLES: Mapping[str, str] = {"callerid": "Caller ID", "current_callerid": "Current Caller ID", "sha256": "SHA-256"}
_UPPER = ("id", "url")
_NOTHING: Schema = {"type": "object", "x-nullable": True, "x-ms-summary": "Data", "description": "Nothing."}


def title(name: str) -> str:
    """The name of a field in title case: `callStarted` is Call Started."""
    if name in _TITLES:
        return _TITLES[name]
    words = _WORDS.findall(name.replace("_", " "))
    return " ".join(word.upper() if word.lower() in _UPPER else word[0].upper() + word[1:] for word in words)


def sentence(name: str) -> str:
    """The name of an event in sentence case: `CallCompleted` is Call completed."""
    return " ".join(_WORDS.findall(name)).capitalize()


def field_schema(field: Field, *, of: str, nullable: bool = True) -> Schema:
    """A field of what is called `of` as a property; what an item lacks may come as null."""
    if field.type == "object" and field.fields:
        return object_schema(of + _pascal(field.name), field.fields)
    if field.type == "array":
        item = object_schema((of + _pascal(field.name)).removesuffix("s"), field.fields)
        schema: Schema = {"type": "array", "items": item}
    elif field.type == "object":
        schema = {"type": "object"}
    else:
        schema = dict(_TYPES[field.type])
    schema |= {"x-ms-summary": title(field.name), "description": field.description}
    return schema | ({"x-nullable": True} if nullable else {})


def _pascal(name: str) -> str:
    return "".join(part[0].upper() + part[1:] for part in name.split("_"))


def object_schema(
    name: str,
    shape: Shape,
    *,
    of: str = "",
    required: Collection[str] = (),
    nullable: bool = True,
    more: Schema | None = None,
) -> Schema:
    """
    An object with the shape's fields, and `more` properties; others may come beside them.

    It is called `name` unless it is an item of a resource, which has the resource's; what is in it is called after
    `of`, or that. What is required is not null.
    """
    items = {operation(row.read_operation).item: row for row in RESOURCES}
    if shape in items:
        name, required = items[shape].noun, (items[shape].id_field,)
    of = of or name
    properties = {
        field.name: field_schema(field, of=of, nullable=nullable and field.name not in required) for field in shape
    }
    schema: Schema = {"type": "object", "properties": properties | (more or {})}
    if required:
        schema["required"] = [field for field in schema["properties"] if field in required]
    return named(name, schema | {"x-ms-summary": title(name), "description": f"{sentence(name)}."})


def item_name(row: Operation) -> str:
    """What an item of an operation is called: by its resource, or by the operation."""
    nouns = {operation(resource.read_operation).item: resource.noun for resource in RESOURCES}
    return nouns.get(row.item) or row.id.removeprefix("Get").removesuffix("s")


def envelope(name: str, data: Schema, **more: Schema) -> Schema:
    """The wrapping of every answer around `data`, with what stands beside that; it has all of its own fields."""
    required = [field.name for field in ENVELOPE] + ["data"]
    described = {"x-ms-summary": "Data", "description": "What was asked for."}
    inside = {"data": data if is_named(data) else described | data, **more}
    return object_schema(name, ENVELOPE, required=required, more=inside)


def answer(row: Operation, **more: Schema) -> Schema:
    """What an operation of the table answers when it succeeds, with what stands beside `data`."""
    if not row.item:
        return done()
    name = item_name(row)
    item = object_schema(name, row.item)
    if row.lists:
        return envelope(f"{name}ListAnswer", {"type": "array", "items": item}, **more)
    return envelope(f"{name}Answer", item)


def batch(row: Operation, **more: Schema) -> Schema:
    """What a polling trigger answers: a list with the state to ask by next."""
    items = {"type": "array", "items": object_schema(item_name(row), row.item)}
    return envelope(f"{item_name(row)}BatchAnswer", items, **more)


def found(row: Operation, resource: Resource) -> Schema:
    """What a list action answers: for makers to pick from, items with a name to show."""
    if not resource.title:
        return answer(row)
    name = f"Titled{resource.noun}"
    item = object_schema(name, (*row.item, TITLE), of=resource.noun, required=(resource.id_field, TITLE.name))
    return envelope(f"{name}ListAnswer", {"type": "array", "items": item})


def done() -> Schema:
    """What is answered where there is nothing to say but that it is done."""
    return envelope("Answer", _NOTHING)


def refusal() -> Schema:
    """What every operation answers when it does not succeed."""
    errors = (
        Field("path", "string", "Name of the field."),
        Field("reason", "string", "What is expected of it."),
    )
    fields = {
        "type": "array",
        "items": object_schema("RefusedField", errors, required=("path", "reason")),
        "x-ms-summary": "Errors",
        "description": "Each field that does not fit, and why.",
    }
    return envelope("Refusal", _NOTHING, errors=fields)


def body(name: str, parameters: tuple[Parameter, ...]) -> Schema:
    """The object that an operation takes in its body."""
    properties: dict[str, Schema] = {}
    for parameter in parameters:
        properties[parameter.name] = {
            **_TYPES[parameter.type],
            **bounds(rule(parameter)),
            "x-ms-summary": parameter.title,
            "description": parameter.description,
            **({"x-ms-visibility": parameter.visibility} if parameter.visibility else {}),
            **choices(parameter.name),
        }
    required = [parameter.name for parameter in parameters if parameter.required]
    return named(name, {"type": "object", "properties": properties, "required": required})


def bounds(row: Any) -> Schema:
    """A rule's bounds and pattern, as far as it has any."""
    limits = {"minimum": row.minimum, "maximum": row.maximum, "pattern": row.pattern}
    return {name: value for name, value in limits.items() if value is not None}


def choices(parameter: str) -> Schema:
    """Where a parameter's values come from when a maker picks one by its name: the resource that it identifies."""
    for row in RESOURCES:
        if row.title and parameter in (row.id_parameter, row.id_field):
            return {
                "x-ms-dynamic-values": {
                    "operationId": row.list_action,
                    "parameters": {"limit": 1000},
                    "value-collection": "data",
                    "value-path": row.id_field,
                    "value-title": TITLE.name,
                }
            }
    return {}
