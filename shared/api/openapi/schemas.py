"""Shapes as OpenAPI 2.0 schemas: items, envelopes, events and refusals, each from the table that defines it."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from shared.api.parameters import rule
from shared.pbx.fields import ENVELOPE, LOST_CALL, Field, Shape
from shared.pbx.operations import OPERATIONS, operation
from shared.pbx.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.events.table import Event
    from shared.pbx.operations import Operation, Parameter

Schema = dict[str, Any]

REFUSAL = "Refusal"
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

# What events carry beyond the items' fields.
_EVENT_FIELDS: Mapping[str, str] = {
    "type": "Always Event.",
    "eventType": "Name of the event.",
    "version": "Version of the event's form.",
    "previous_contactID": "Unique ID of the employee who handed the call over.",
    "blobUrl": "Address of the audio in Blob Storage.",
    "container": "Container that the audio is in.",
    "blobName": "Name of the audio's blob in its container.",
    "storedAt": "When the audio was stored.",
    "sha256": "SHA-256 of the audio in hexadecimal digits.",
    "size": "Size of the audio in bytes.",
    "contentType": "Kind of audio, such as audio/mpeg.",
    "incomplete": "True where less audio came than there should be; more may come later.",
    "callID": "Unique ID of the call.",
}


def title(name: str) -> str:
    """The name of a field in title case: `callStarted` is Call Started."""
    if name in _TITLES:
        return _TITLES[name]
    words = _WORDS.findall(name.replace("_", " "))
    return " ".join(word.upper() if word.lower() in _UPPER else word[0].upper() + word[1:] for word in words)


def sentence(name: str) -> str:
    """The name of an event in sentence case: `CallCompleted` is Call completed."""
    return " ".join(_WORDS.findall(name)).capitalize()


def field_schema(field: Field, *, nullable: bool = True) -> Schema:
    """A field as a property; what an item lacks may come as null."""
    if field.type == "array":
        schema: Schema = {"type": "array", "items": object_schema(field.fields)}
    elif field.type == "object":
        schema = object_schema(field.fields)
    else:
        schema = dict(_TYPES[field.type])
    schema |= {"x-ms-summary": title(field.name), "description": field.description}
    return schema | ({"x-nullable": True} if nullable else {})


def object_schema(shape: Shape, *, nullable: bool = True) -> Schema:
    """An object with the shape's fields; others may come beside them."""
    return {"type": "object", "properties": {field.name: field_schema(field, nullable=nullable) for field in shape}}


def envelope(data: Schema) -> Schema:
    """The wrapping of every answer around `data`."""
    wrapped = object_schema(ENVELOPE, nullable=False)
    wrapped["properties"]["data"] = {"x-ms-summary": "Data", "description": "What was asked for."} | data
    return wrapped


def answer(operation: Operation) -> Schema:
    """What an operation of the table answers when it succeeds."""
    item = object_schema(operation.item)
    if operation.lists:
        return envelope({"type": "array", "items": item})
    return envelope(item if operation.item else item | {"x-nullable": True})


def refusal() -> Schema:
    """What every operation answers when it does not succeed."""
    errors = (
        Field("path", "string", "Name of the field."),
        Field("reason", "string", "What is expected of it."),
    )
    schema = object_schema(ENVELOPE, nullable=False)
    nothing = {"type": "object", "x-nullable": True, "x-ms-summary": "Data", "description": "Nothing."}
    schema["properties"]["data"] = nothing
    schema["properties"]["errors"] = {
        "type": "array",
        "items": object_schema(errors, nullable=False),
        "x-ms-summary": "Errors",
        "description": "Each field that does not fit, and why.",
    }
    schema["required"] = ["version", "status", "statusCode", "message"]
    return schema


def body(parameters: tuple[Parameter, ...]) -> Schema:
    """The object that an operation takes in its body."""
    properties: dict[str, Schema] = {}
    for parameter in parameters:
        properties[parameter.name] = {
            **_TYPES[parameter.type],
            **bounds(rule(parameter)),
            "x-ms-summary": parameter.title,
            "description": parameter.description,
            **({"x-ms-visibility": parameter.visibility} if parameter.visibility else {}),
        }
    required = [parameter.name for parameter in parameters if parameter.required]
    return {"type": "object", "properties": properties, "required": required}


def bounds(row: Any) -> Schema:
    """A rule's bounds and pattern, as far as it has any."""
    facts = {"minimum": row.minimum, "maximum": row.maximum, "pattern": row.pattern}
    return {name: value for name, value in facts.items() if value is not None}


@cache
def _descriptions() -> Mapping[str, str]:
    fields = (*(field for row in OPERATIONS for field in row.item), *LOST_CALL)
    return {field.name: field.description for field in fields} | dict(_EVENT_FIELDS)


def event_shape(event: Event) -> Shape:
    """The fields of an event's `data`: an item's for what the pollers tell, else its model's."""
    if event.source == "poll":
        nouns = {row.noun: row for row in RESOURCES if event.name.startswith(row.noun)}
        return operation(nouns[max(nouns, key=len)].read_operation).item
    known = _descriptions()
    properties: Mapping[str, Any] = event.model.model_json_schema().get("properties", {})
    return tuple(
        Field(name, _type_of(facts), known.get(name, f"{title(name)} of the event."))
        for name, facts in properties.items()
    )


def _type_of(facts: Mapping[str, Any]) -> Any:
    kinds = facts.get("anyOf", [facts])
    first = next(kind for kind in kinds if kind.get("type") != "null")
    return first["format"] if first.get("format") == "date-time" else first.get("type", "string")


def notification(event: Event) -> Schema:
    """What is posted to a subscriber: the PBX's own wrapping around the event's data."""
    wrapping = tuple(Field(name, "string", _EVENT_FIELDS[name]) for name in ("type", "eventType", "version"))
    data = Field("data", "object", event.description, event_shape(event))
    return object_schema((*wrapping, data), nullable=False)
