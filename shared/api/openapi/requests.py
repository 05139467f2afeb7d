"""Requests of subscribers as OpenAPI 2.0 schemas: the models' own fields, with words and patterns beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api.openapi.schemas import Schema, choices, enum, named, title
from shared.phones import NUMBER_PATTERN, PREFIX_PATTERN
from shared.subscriptions.endpoints import LONGEST
from shared.subscriptions.subscription import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

# The host is checked where it is connected to.
ENDPOINT_PATTERN = "^https://"
_FOUR = "[A-Za-z0-9+/]{4}"
_PADDED = "[A-Za-z0-9+/]{2}=="
SECRET_PATTERN = f"^whsec_(?:(?:{_FOUR}){{8,20}}(?:{_PADDED}|[A-Za-z0-9+/]{{3}}=)?|(?:{_FOUR}){{21}}(?:{_PADDED})?)$"

# Beside what the models say: words, and what no type says.
_WORDS: Mapping[str, tuple[str, Schema]] = {
    "endpoint": ("Address that the event is posted to.", {"pattern": ENDPOINT_PATTERN, "maxLength": LONGEST}),
    "filter": ("Which events to post; all of them without one.", {}),
    "shape": ("The PBX's own form (native), or CloudEvents 1.0.", {}),
    "name": ("Name that the subscription is shown by.", {"maxLength": LONGEST_NAME}),
    "secret": ("Signs what is posted; made for you if you bring none.", {"pattern": SECRET_PATTERN}),
    "direction": ("Only incoming (in) or only outgoing (out) calls.", {}),
    "contact_id": ("Only what concerns this employee.", {"format": "int64"}),
    "caller": ("Only calls from this number.", {"pattern": NUMBER_PATTERN}),
    "destination": ("Only calls to this number.", {"pattern": NUMBER_PATTERN}),
    "prefix": ("Only calls from or to numbers that begin so, as +371.", {"pattern": PREFIX_PATTERN}),
}
_KEPT = ("type", "enum", "minimum", "maximum", "minLength")


def subscribe_request() -> Schema:
    """The body of a subscription."""
    from shared.api.subscribe import SubscribeRequest

    whole = SubscribeRequest.model_json_schema()
    return _object("SubscribeRequest", whole, whole["$defs"])


def unsubscribe_request() -> Schema:
    """The body that ends all that an address is subscribed to."""
    from shared.api.subscribe import UnsubscribeRequest

    given = UnsubscribeRequest.model_json_schema()["properties"]["endpoint"]
    words = {"x-ms-summary": "Endpoint", "description": "Address that events were posted to."}
    endpoint = {name: value for name, value in given.items() if name in _KEPT} | words
    schema = {"type": "object", "properties": {"endpoint": endpoint}, "required": ["endpoint"]}
    return named("UnsubscribeRequest", schema)


def _object(name: str, given: Mapping[str, Any], others: Mapping[str, Any]) -> Schema:
    required = given.get("required", [])
    properties = {
        field: _field(field, kind, others, required=field in required) for field, kind in given["properties"].items()
    }
    schema: Schema = {"type": "object", "properties": properties}
    schema |= {"required": required} if required else {}
    schema |= {"additionalProperties": False} if given.get("additionalProperties") is False else {}
    return named(name, schema)


def _field(name: str, given: Mapping[str, Any], others: Mapping[str, Any], *, required: bool) -> Schema:
    kind = next(one for one in given.get("anyOf", [given]) if one.get("type") != "null")
    description, more = _WORDS[name]
    words: Schema = {"x-ms-summary": title(name), "description": description}
    if "$ref" in kind:
        schema = _object(f"Subscription{title(name)}", others[kind["$ref"].rpartition("/")[2]], others)
        return schema | words | {"x-nullable": True, "x-ms-visibility": "advanced"}
    schema = {key: kind[key] for key in _KEPT if key in kind} | words | more | choices(name)
    schema |= enum(name, kind["enum"]) if "enum" in kind else {}
    if name == "endpoint":
        return schema | {"x-ms-visibility": "internal", "x-ms-notification-url": True}
    # A choice is one of those that are named: generators take what may be null beside them for a contradiction.
    nullable = not required and "enum" not in schema
    return schema | {"x-ms-visibility": "advanced"} | ({"x-nullable": True} if nullable else {})
