"""Shapes as OpenAPI 2.0 schemas: items, envelopes, bodies and refusals, each from the table that defines it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from shared.api.operations import TITLE
from shared.api.parameters import is_number, rule
from shared.pbx.fields import ENVELOPE, Field, Shape
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES
from shared.phones import FEWEST_DIGITS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from shared.pbx.operations import Operation, Parameter
    from shared.pbx.resources import Resource

Schema = dict[str, Any]

_NAME = "$name"
_TYPES: Mapping[str, Schema] = {
    "integer": {"type": "integer", "format": "int64"},
    "number": {"type": "number", "format": "double"},
    "boolean": {"type": "boolean"},
    # No format: the PBX writes offsets without a colon, and nothing at all for what has not happened.
    "date-time": {"type": "string"},
    "string": {"type": "string"},
    "text": {"type": "string"},
}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
_TITLES: Mapping[str, str] = {"callerid": "Caller ID", "current_callerid": "Current Caller ID", "sha256": "SHA-256"}
_UPPER = ("id", "url")
# Types of generated clients; `Type` and `Format` would hide others.
_ENUMS: Mapping[str, str] = {
    "direction": "CallDirection",
    "outcome": "CallOutcome",
    "type": "EventName",
    "shape": "EventShape",
    "format": "AnswerFormat",
    "container": "MediaContainer",
}
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
    row = _resource_of(shape)
    if row is not None:
        name, required = row.noun, (row.id_field,)
    properties = {
        field.name: field_schema(field, of=of or name, nullable=nullable and field.name not in required)
        for field in shape
    } | (more or {})
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = [field for field in properties if field in required]
    return named(name, schema | {"x-ms-summary": title(name), "description": f"{sentence(name)}."})


def _resource_of(shape: Shape) -> Resource | None:
    return next((row for row in RESOURCES if operation(row.read_operation).item == shape), None)


def envelope(name: str, data: Schema, **more: Schema) -> Schema:
    """The wrapping of every answer around `data`, with what stands beside that; it has all of its own fields."""
    required = [field.name for field in ENVELOPE] + ["data"]
    # Beside the reference that will stand in place of a named one nothing counts.
    words = {} if _NAME in data else {"x-ms-summary": "Data", "description": "What was asked for."}
    return object_schema(name, ENVELOPE, required=required, more={"data": words | data, **more})


def answer(row: Operation, word: str = "List", /, *, noun: str = "", **more: Schema) -> Schema:
    """
    What an operation answers when it succeeds, with what stands beside `data`; `word` is in the name of a list's.

    `noun` names an item where neither a resource nor the operation's own name does.
    """
    if not row.item:
        return done()
    resource = _resource_of(row.item)
    name = noun or (resource.noun if resource else row.id.removeprefix("Get").removesuffix("s"))
    item = object_schema(name, row.item)
    return _list_of(item, f"{name}{word}", **more) if row.lists else envelope(f"{name}Answer", item)


def _list_of(item: Schema, name: str, **more: Schema) -> Schema:
    return envelope(f"{name}Answer", {"type": "array", "items": item}, **more)


def found(row: Operation, resource: Resource) -> Schema:
    """Return the schema of a list action's answer: for makers to pick from, items with a name to show."""
    if not resource.title:
        return answer(row)
    name, required = f"Titled{resource.noun}", (resource.id_field, TITLE.name)
    item = object_schema(name, (*row.item, TITLE), of=resource.noun, required=required)
    return _list_of(item, f"{name}List")


def done() -> Schema:
    """Return the schema of an answer without data."""
    return envelope("Answer", _NOTHING)


def refusal() -> Schema:
    """Return the schema of every refusal."""
    errors = (Field("path", "string", "Name of the field."), Field("reason", "string", "What is expected of it."))
    fields = {
        "type": "array",
        "items": object_schema("RefusedField", errors, required=("path", "reason")),
        "x-ms-summary": "Errors",
        "description": "Each field that does not fit, and why.",
    }
    return envelope("Refusal", _NOTHING, errors=fields)


def body(name: str, parameters: tuple[Parameter, ...]) -> Schema:
    """The object that an operation takes in its body."""
    properties = {parameter.name: value_schema(parameter) for parameter in parameters}
    required = [parameter.name for parameter in parameters if parameter.required]
    return named(name, {"type": "object", "properties": properties, "required": required})


def value_schema(parameter: Parameter) -> Schema:
    """Return the schema of a parameter's values, with its title."""
    limits = rule(parameter)
    bounds = {"minimum": limits.minimum, "maximum": limits.maximum, "pattern": limits.pattern}
    schema = _TYPES[parameter.type] | ({"format": "date-time"} if parameter.type == "date-time" else {})
    schema |= {name: value for name, value in bounds.items() if value is not None}
    schema |= {"minLength": FEWEST_DIGITS} if is_number(parameter) else {}
    schema |= {"x-ms-summary": parameter.title, "description": parameter.description}
    schema |= enum(parameter.name, parameter.choices) if parameter.choices else {}
    if parameter.default is not None:
        # Empty is none, too.
        schema |= {"default": parameter.default} | ({"allowEmptyValue": True} if parameter.where == "query" else {})
    schema |= {"x-ms-visibility": parameter.visibility} if parameter.visibility else {}
    return schema | choices(parameter.name)


def text(name: str, where: str, pattern: str, description: str, *, required: bool = False, **rules: Any) -> Schema:
    """A parameter of ours, a text of this pattern and these other rules."""
    form = {"name": name, "in": where, "required": required, "type": "string", "pattern": pattern, **rules}
    return form | {"x-ms-summary": title(name), "description": description}


def enum(name: str, values: Iterable[str]) -> Schema:
    """Return the values that a field may have, under one name wherever it stands: generators make a type of it."""
    known = list(values)
    kind = _ENUMS.get(name, title(name).replace(" ", ""))
    kind = "YesNo" if known == ["true", "false"] else kind
    return {"enum": known, "x-ms-enum": {"name": kind, "modelAsString": True}}


def choices(parameter: str) -> Schema:
    """Return the source of a parameter's values for makers: the resource that it identifies."""
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


def named(name: str, schema: Schema) -> Schema:
    """The schema, to be put under `definitions` by this name wherever it stands: generators make a class of each."""
    return {_NAME: name} | schema


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
