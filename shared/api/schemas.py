"""Builds the OpenAPI 2.0 schemas of items, envelopes, bodies and refusals from their tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from shared.api.lists import resource_of
from shared.api.operations import LIST_ACTIONS, TITLE
from shared.api.parameters import limits
from shared.api.subscribe import LONGEST_ENDPOINT, LONGEST_NAME
from shared.events.table import Event
from shared.pbx.fields import ENVELOPE, Field, Shape
from shared.pbx.operations import Operation, Parameter, operation
from shared.pbx.resources import RESOURCES
from shared.values import LARGEST_ID, NUMBER_PATTERN, PREFIX_PATTERN

Schema = dict[str, Any]
# The named schemas; complete once all paths are described.
DEFINITIONS: Schema = {}

INTEGER: Schema = {"type": "integer", "format": "int64"}
_TYPES: Mapping[str, Schema] = {
    "integer": INTEGER,
    "boolean": {"type": "boolean"},
    # Without a format: the PBX writes offsets without a colon, and empty texts.
    "date-time": {"type": "string"},
    "string": {"type": "string"},
    "text": {"type": "string"},
    "object": {"type": "object"},
}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
_TITLES: Mapping[str, str] = {"callerid": "Caller ID", "current_callerid": "Current Caller ID", "sha256": "SHA-256"}
_UPPER = ("id", "url")
# Names of types in generated clients, where `Type` and `Format` would hide types of the language.
_ENUMS: Mapping[str, str] = {
    "direction": "CallDirection",
    "outcome": "CallOutcome",
    "type": "EventName",
    "shape": "EventShape",
    "format": "AnswerFormat",
    "container": "MediaContainer",
}
# Names of items that differ from their operations' names.
_NOUNS: Mapping[str, str] = {"GetCalls": "CallStory", "GetEndedCalls": "CallStory", "GetCall": "WholeCall"}
# Parameters with the same IDs as another one.
_MEANT: Mapping[str, str] = {"employee": "contact_id"}
_NOTHING: Schema = {"type": "object", "x-nullable": True, "x-ms-summary": "Data", "description": "Nothing."}

_WRAPPING: Shape = (
    Field("type", "string", "Always Event."),
    Field("eventType", "string", "Name of the event."),
    Field("version", "string", "Version of the event's form."),
)
# The app checks the host when it connects.
ENDPOINT_PATTERN = "^https://"
_FOUR = "[A-Za-z0-9+/]{4}"
_PADDED = "[A-Za-z0-9+/]{2}=="
SECRET_PATTERN = f"^whsec_(?:(?:{_FOUR}){{8,20}}(?:{_PADDED}|[A-Za-z0-9+/]{{3}}=)?|(?:{_FOUR}){{21}}(?:{_PADDED})?)$"
_NUMBER: Schema = {"pattern": NUMBER_PATTERN}
# The fields of a subscription's request, with their descriptions and rules; without a type they are texts.
_FILTER: Mapping[str, tuple[str, Schema]] = {
    "direction": ("Only incoming (in) or only outgoing (out) calls.", {"enum": ["in", "out"]}),
    "contact_id": ("Only events of this employee.", INTEGER | {"minimum": 1, "maximum": LARGEST_ID}),
    "caller": ("Only calls from this number.", _NUMBER),
    "destination": ("Only calls to this number.", _NUMBER),
    "prefix": ("Only calls from or to numbers with this prefix, such as +371.", {"pattern": PREFIX_PATTERN}),
}
_OPTIONS: Mapping[str, tuple[str, Schema]] = {
    "shape": ("The PBX's own form (native), or CloudEvents 1.0.", {"enum": ["native", "cloudevents"]}),
    "secret": ("Signs the posts; made by the app if left out.", {"pattern": SECRET_PATTERN}),
    "name": ("Name of the subscription in lists.", {"maxLength": LONGEST_NAME}),
}


def title(name: str) -> str:
    """Return the name of a field in title case: `callStarted` is Call Started."""
    if name in _TITLES:
        return _TITLES[name]
    words = _WORDS.findall(name.replace("_", " "))
    return " ".join(word.upper() if word.lower() in _UPPER else word[0].upper() + word[1:] for word in words)


def sentence(name: str) -> str:
    """Return the name of an event in sentence case: `CallCompleted` is Call completed."""
    return " ".join(_WORDS.findall(name)).capitalize()


def named(name: str, schema: Schema) -> Schema:
    """
    Add a schema to DEFINITIONS by its name, and return a reference to it: generators make a class of each.

    Raises ValueError for a different schema of the same name.
    """
    if DEFINITIONS.setdefault(name, schema) != schema:
        raise ValueError(f"two schemas are called {name}")
    return {"$ref": f"#/definitions/{name}"}


def field_schema(field: Field, *, of: str, nullable: bool = True) -> Schema:
    """Return a field as a property of the object called `of`; it may be null unless `nullable` is false."""
    if field.type == "array":
        inner = "".join(part[0].upper() + part[1:] for part in field.name.split("_"))
        schema: Schema = {"type": "array", "items": object_schema((of + inner).removesuffix("s"), field.fields)}
    else:
        schema = dict(_TYPES[field.type])
    schema |= {"x-ms-summary": title(field.name), "description": field.description}
    return schema | ({"x-nullable": True} if nullable else {})


def object_schema(
    name: str,
    shape: Shape,
    more: Schema | None = None,
    *,
    required: Collection[str] = (),
    of: str = "",
    nullable: bool = True,
) -> Schema:
    """
    Return an object with a shape's fields and `more` properties; other properties are allowed.

    Objects inside are named after `of`, or else after `name`. Required fields are never null.
    """
    row = next((row for row in RESOURCES if operation(row.read_operation).item == shape), None)
    if row is not None:
        name, required = row.noun, (row.id_field,)
    properties = {
        field.name: field_schema(field, of=of or name, nullable=nullable and field.name not in required)
        for field in shape
    } | (more or {})
    schema: Schema = {"type": "object", "properties": properties}
    schema |= {"required": [field for field in properties if field in required]} if required else {}
    return named(name, schema | {"x-ms-summary": title(name), "description": f"{sentence(name)}."})


def envelope(name: str, data: Schema, more: Schema | None = None) -> Schema:
    """Return the envelope of every answer around `data`, with `more` beside it; all its own fields are required."""
    required = [field.name for field in ENVELOPE] + ["data"]
    # Properties beside a reference are ignored.
    words = {} if "$ref" in data else {"x-ms-summary": "Data", "description": "Result of the request."}
    return object_schema(name, ENVELOPE, {"data": words | data, **(more or {})}, required=required)


def answer(row: Operation, more: Schema | None = None) -> Schema:
    """Return the schema of an operation's successful answer, with `more` beside `data`."""
    if not row.item:
        return envelope("Answer", _NOTHING)
    item = object_schema(_NOUNS.get(row.id, row.id.removeprefix("Get").removesuffix("s")), row.item)
    name = item["$ref"].rpartition("/")[2]
    if not row.lists:
        return envelope(f"{name}Answer", item, more)
    if row in LIST_ACTIONS and (of := resource_of(row)).title:
        # Makers pick from these items by title.
        name, required = f"Titled{of.noun}", (of.id_field, TITLE.name)
        item = object_schema(name, (*row.item, TITLE), of=of.noun, required=required)
    word = "Batch" if row.path.startswith("trigger/") else "List"
    return envelope(f"{name}{word}Answer", {"type": "array", "items": item}, more)


def refusal() -> Schema:
    """Return the schema of every refusal."""
    reasons = (Field("path", "string", "Name of the field."), Field("reason", "string", "Expected value."))
    fields = {
        "type": "array",
        "items": object_schema("RefusedField", reasons, required=("path", "reason")),
        "x-ms-summary": "Errors",
        "description": "Each invalid field, with the reason.",
    }
    return envelope("Refusal", _NOTHING, {"errors": fields})


def parameter(row: Parameter) -> Schema:
    """Return a parameter of the path or query; with a default, it is not required."""
    place = {"name": row.name, "in": row.where, "required": row.required and row.default is None}
    return place | value_schema(row) | ({"x-ms-url-encoding": "single"} if row.where == "path" else {})


def body(name: str, parameters: Iterable[Parameter]) -> Schema:
    """Return the body of an operation: an object with these parameters."""
    properties = {parameter.name: value_schema(parameter) for parameter in parameters}
    required = [parameter.name for parameter in parameters if parameter.required]
    return in_body(named(name, {"type": "object", "properties": properties, "required": required}))


def in_body(schema: Schema) -> Schema:
    """Return the body with this schema."""
    return {"name": "body", "in": "body", "required": True, "schema": schema}


def value_schema(parameter: Parameter) -> Schema:
    """Return the schema of a parameter's values, with its title."""
    schema = _TYPES[parameter.type] | ({"format": "date-time"} if parameter.type == "date-time" else {})
    schema |= limits(parameter)
    schema |= {"x-ms-summary": parameter.title, "description": parameter.description}
    schema |= enum(parameter.name, parameter.choices) if parameter.choices else {}
    if parameter.default is not None:
        # An empty value is the same as none.
        schema |= {"default": parameter.default} | ({"allowEmptyValue": True} if parameter.where == "query" else {})
    schema |= {"x-ms-visibility": parameter.visibility} if parameter.visibility else {}
    return schema | choices(parameter.name)


def text(name: str, where: str, pattern: str, description: str, *, required: bool = False, **rules: Any) -> Schema:
    """Return a parameter that is a text with this pattern and these other rules."""
    form = {"name": name, "in": where, "required": required, "type": "string", "pattern": pattern, **rules}
    return form | {"x-ms-summary": title(name), "description": description}


def enum(name: str, values: Iterable[str]) -> Schema:
    """Return a field's values, under the same name in all schemas: generators make a type of each name."""
    known = list(values)
    kind = "YesNo" if known == ["true", "false"] else _ENUMS.get(name, title(name).replace(" ", ""))
    return {"enum": known, "x-ms-enum": {"name": kind, "modelAsString": True}}


def choices(parameter: str) -> Schema:
    """Return the list action that makers pick a parameter's value from, if it is the ID of items with titles."""
    meant = _MEANT.get(parameter, parameter)
    row = next((row for row in RESOURCES if row.title and meant in (row.id_parameter, row.id_field)), None)
    if row is None:
        return {}
    source = {"operationId": row.list_action, "parameters": {"limit": 1000}, "value-collection": "data"}
    return {"x-ms-dynamic-values": source | {"value-path": row.id_field, "value-title": TITLE.name}}


def notification(event: Event) -> Schema:
    """Return the schema of a post to a subscriber: the PBX's own envelope around the event's data."""
    model, name, always = event.model, f"{event.name}Event", ("eventType", "data")
    data = object_schema(f"{model.name}Data", model.fields, required=model.required)
    return object_schema(name, _WRAPPING, {"data": data}, required=always, nullable=False)


def subscribe_request() -> Schema:
    """Return the schema of a subscription's request."""
    words: Schema = {"x-ms-summary": "Filter", "description": "Selects the events to post; by default all of them."}
    words |= {"x-nullable": True, "x-ms-visibility": "advanced"}
    parts = {"type": "object", "properties": _options(_FILTER), "additionalProperties": False}
    endpoint = _endpoint("Address that the event is posted to.", pattern=ENDPOINT_PATTERN, maxLength=LONGEST_ENDPOINT)
    endpoint |= {"x-ms-visibility": "internal", "x-ms-notification-url": True}
    properties = {"endpoint": endpoint, "filter": named("SubscriptionFilter", parts | words), **_options(_OPTIONS)}
    return named("SubscribeRequest", {"type": "object", "properties": properties, "required": ["endpoint"]})


def unsubscribe_request() -> Schema:
    """Return the schema of the request that ends all subscriptions of an address."""
    properties = {"endpoint": _endpoint("Address that events were posted to.", minLength=1)}
    return named("UnsubscribeRequest", {"type": "object", "properties": properties, "required": ["endpoint"]})


def _endpoint(description: str, **rules: Any) -> Schema:
    return {"type": "string", "x-ms-summary": "Endpoint", "description": description, **rules}


def _options(table: Mapping[str, tuple[str, Schema]]) -> Schema:
    properties: Schema = {}
    for name, (description, rules) in table.items():
        words: Schema = {"x-ms-summary": title(name), "description": description}
        # Generators refuse an enum that may be null.
        more = enum(name, rules["enum"]) if "enum" in rules else {"x-nullable": True}
        properties[name] = {"type": "string"} | rules | choices(name) | words | more | {"x-ms-visibility": "advanced"}
    return properties
