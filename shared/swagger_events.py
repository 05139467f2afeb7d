"""Events as OpenAPI 2.0 webhook triggers: how one subscribes, what is posted then, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared import swagger_shapes as schemas
from shared.events import EVENTS, Event
from shared.operations import operation
from shared.parameters import LARGEST, NUMBER_PATTERN
from shared.swagger_paths import put, refusals

if TYPE_CHECKING:
    from shared.swagger_shapes import Schema

SUBSCRIBABLE: tuple[Event, ...] = EVENTS
# The certified definition describes this path, which nothing is served at; a copy keeps ours a superset.
_BARE = "webhooks"


def _text(title: str, description: str, **more: Any) -> Schema:
    return {"type": "string", "x-ms-summary": title, "description": description, **more}


_FILTER: Schema = {
    "direction": _text("Direction", "Only incoming (in) or only outgoing (out) calls.", enum=["in", "out"]),
    "contact_id": {
        "type": "integer",
        "format": "int64",
        "minimum": 1,
        "maximum": LARGEST,
        "x-ms-summary": "Contact ID",
        "description": "Only what concerns this employee.",
    },
    "caller": _text("Caller", "Only calls from this number.", pattern=NUMBER_PATTERN),
    "destination": _text("Destination", "Only calls to this number.", pattern=NUMBER_PATTERN),
}
_BODY: Schema = {
    "type": "object",
    "properties": {
        "endpoint": _text(
            "Endpoint",
            "Address that the event is posted to.",
            **{"x-ms-visibility": "internal", "x-ms-notification-url": True},
        ),
        "filter": {
            "type": "object",
            "properties": _FILTER,
            "x-ms-summary": "Filter",
            "description": "Which events to post; all of them without one.",
            "x-ms-visibility": "advanced",
        },
        "shape": _text(
            "Shape",
            "The PBX's own form (native), or CloudEvents 1.0.",
            enum=["native", "cloudevents"],
            default="native",
            **{"x-ms-visibility": "advanced"},
        ),
    },
    "required": ["endpoint"],
}


def _subscribe(event: Event) -> Schema:
    made: Schema = schemas.envelope({"type": "string", "description": "ID of the subscription."})
    return {
        "operationId": event.name,
        "summary": schemas.sentence(event.name),
        "description": event.description,
        "x-ms-visibility": "important",
        "x-ms-trigger": "single",
        "x-ms-trigger-hint": "To see it work now, make it happen at the PBX.",
        "consumes": ["application/json"],
        "parameters": [{"name": "body", "in": "body", "required": True, "schema": _BODY}],
        "responses": {
            "201": {
                "description": "Subscribed.",
                "schema": made,
                "headers": {"Location": {"type": "string", "description": "Address that ends the subscription."}},
            },
            **refusals("subscribe"),
        },
    }


def _unsubscribe() -> Schema:
    row = operation("DeleteWebhookByID")
    ended = schemas.envelope(schemas.object_schema(()) | {"x-nullable": True})
    return {
        "operationId": row.id,
        "summary": row.summary,
        "description": row.description,
        "x-ms-visibility": "internal",
        # Who removes a trigger knows the Location, but sends no key: its id cannot be guessed.
        "security": [],
        "parameters": [
            _text(
                "Webhook ID",
                "ID of the subscription.",
                name="webhook_id",
                required=True,
                **{"in": "path", "x-ms-url-encoding": "single"},
            )
        ],
        "responses": {"200": {"description": "Ended.", "schema": ended}, **refusals("unsubscribe")},
    }


def add(paths: dict[str, Any]) -> None:
    """Add every event, and the way to end a subscription, to the paths."""
    for event in SUBSCRIBABLE:
        path = f"webhooks/{event.name}"
        put(paths, path, "post", _subscribe(event))
        content = {"description": event.description, "schema": schemas.notification(event)}
        paths[f"/{path}"]["x-ms-notification-content"] = content
    paths[f"/{_BARE}"] = {"x-ms-notification-content": paths[f"/{_BARE}/{EVENTS[0].name}"]["x-ms-notification-content"]}
    put(paths, operation("DeleteWebhookByID").path, "delete", _unsubscribe())
