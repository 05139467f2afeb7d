"""Events as OpenAPI 2.0 schemas: what is posted to a subscriber, and what a subscriber sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api.openapi import schemas
from shared.api.openapi.schemas import INTEGER, Schema, choices, enum, named, title
from shared.identifiers import LARGEST_ID
from shared.pbx.fields import Field, Shape
from shared.phones import NUMBER_PATTERN, PREFIX_PATTERN
from shared.subscriptions.endpoints import LONGEST
from shared.subscriptions.subscription import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.events.table import Event

_WRAPPING: Shape = (
    Field("type", "string", "Always Event."),
    Field("eventType", "string", "Name of the event."),
    Field("version", "string", "Version of the event's form."),
)
# The host is checked where it is connected to.
ENDPOINT_PATTERN = "^https://"
_FOUR = "[A-Za-z0-9+/]{4}"
_PADDED = "[A-Za-z0-9+/]{2}=="
SECRET_PATTERN = f"^whsec_(?:(?:{_FOUR}){{8,20}}(?:{_PADDED}|[A-Za-z0-9+/]{{3}}=)?|(?:{_FOUR}){{21}}(?:{_PADDED})?)$"
_NUMBER: Schema = {"pattern": NUMBER_PATTERN}
# What the models of requests take: words, and rules beside those of a text.
_FILTER: Mapping[str, tuple[str, Schema]] = {
    "direction": ("Only incoming (in) or only outgoing (out) calls.", {"enum": ["in", "out"]}),
    "contact_id": ("Only what concerns this employee.", INTEGER | {"minimum": 1, "maximum": LARGEST_ID}),
    "caller": ("Only calls from this number.", _NUMBER),
    "destination": ("Only calls to this number.", _NUMBER),
    "prefix": ("Only calls from or to numbers that begin so, as +371.", {"pattern": PREFIX_PATTERN}),
}
_OPTIONS: Mapping[str, tuple[str, Schema]] = {
    "shape": ("The PBX's own form (native), or CloudEvents 1.0.", {"enum": ["native", "cloudevents"]}),
    "secret": ("Signs what is posted; made for you if you bring none.", {"pattern": SECRET_PATTERN}),
    "name": ("Name that the subscription is shown by.", {"maxLength": LONGEST_NAME}),
}


def notification(event: Event) -> Schema:
    """Return the schema of a post to a subscriber: the PBX's own wrapping around the event's data."""
    model, name, always = event.model, f"{event.name}Event", ("eventType", "data")
    data = schemas.object_schema(f"{model.name}Data", model.fields, required=model.required)
    return schemas.object_schema(name, _WRAPPING, {"data": data}, required=always, nullable=False)


def subscribe_request() -> Schema:
    """Return the body of a subscription."""
    words: Schema = {"x-ms-summary": "Filter", "description": "Selects the events to post; without one, all of them."}
    words |= {"x-nullable": True, "x-ms-visibility": "advanced"}
    parts = {"type": "object", "properties": _options(_FILTER), "additionalProperties": False}
    endpoint = _endpoint("Address that the event is posted to.", pattern=ENDPOINT_PATTERN, maxLength=LONGEST)
    endpoint |= {"x-ms-visibility": "internal", "x-ms-notification-url": True}
    properties = {"endpoint": endpoint, "filter": named("SubscriptionFilter", parts | words), **_options(_OPTIONS)}
    return named("SubscribeRequest", {"type": "object", "properties": properties, "required": ["endpoint"]})


def unsubscribe_request() -> Schema:
    """Return the body that ends all that an address is subscribed to."""
    properties = {"endpoint": _endpoint("Address that events were posted to.", minLength=1)}
    return named("UnsubscribeRequest", {"type": "object", "properties": properties, "required": ["endpoint"]})


def _endpoint(description: str, **rules: Any) -> Schema:
    return {"type": "string", "x-ms-summary": "Endpoint", "description": description, **rules}


def _options(table: Mapping[str, tuple[str, Schema]]) -> Schema:
    found: Schema = {}
    for name, (description, rules) in table.items():
        schema: Schema = (
            {"type": "string"} | rules | choices(name) | {"x-ms-summary": title(name), "description": description}
        )
        # A choice is one of those that are named: generators take what may be null beside them for a contradiction.
        schema |= enum(name, rules["enum"]) if "enum" in rules else {"x-nullable": True}
        found[name] = schema | {"x-ms-visibility": "advanced"}
    return found
