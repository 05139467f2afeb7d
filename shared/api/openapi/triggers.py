"""Events as OpenAPI 2.0: webhook triggers, what is posted then, how subscriptions are looked after, and the feed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api import feed
from shared.api.openapi import schemas
from shared.api.openapi.paths import described, parameter, put
from shared.api.subscribe import ID_PATTERN, LISTED
from shared.events.table import EVENTS, Event
from shared.pbx.fields import Field
from shared.pbx.operations import Operation, operation
from shared.phones import NUMBER_PATTERN
from shared.storage.rows import LARGEST_ID
from shared.subscriptions.filter import PREFIX_PATTERN

if TYPE_CHECKING:
    from shared.api.openapi.schemas import Schema

SUBSCRIBABLE: tuple[Event, ...] = EVENTS
# The certified definition describes this path, which nothing is served at; a copy keeps ours a superset.
_BARE = "webhooks"
# What certainly is a public host; the app takes numeric addresses and, on a laptop, loopback too.
_ENDPOINT = r"^https://(?:[a-z](?:[a-z0-9-]{0,60}[a-z0-9])?\.)+[a-z]{2,20}(?::[1-9][0-9]{0,3})?(?:/[!$-;=?-Z_a-z~]*)?$"
_WHSEC = r"^whsec_(?:[A-Za-z0-9+/]{4}){8,21}$"
_MARK = r"^[A-Za-z0-9_-]{1,1000}$"

_SUBSCRIPTIONS = Operation(
    id="GetSubscriptions",
    path="subscriptions",
    parameters=(),
    summary="List subscriptions",
    description="Brings every subscription with what became of its deliveries.",
    lists=True,
    item=LISTED,
    visibility="advanced",
)
_MADE = (Field("data", "string", "ID of the subscription."), Field("secret", "string", "Signs what is posted."))


def _optional(title: str, description: str, **more: Any) -> Schema:
    told = {"type": "string", "x-nullable": True, "x-ms-summary": title, "description": description}
    return told | {"x-ms-visibility": "advanced"} | more


_CONTACT: Schema = {"type": "integer", "format": "int64", "minimum": 1, "maximum": LARGEST_ID}
_FILTER: Schema = {
    "direction": _optional("Direction", "Only incoming (in) or only outgoing (out) calls.", pattern="^(in|out)$"),
    "contact_id": _optional("Contact ID", "Only what concerns this employee.", **_CONTACT),
    "caller": _optional("Caller", "Only calls from this number.", pattern=NUMBER_PATTERN),
    "destination": _optional("Destination", "Only calls to this number.", pattern=NUMBER_PATTERN),
    "prefix": _optional("Prefix", "Only calls from or to numbers that begin so, as +371.", pattern=PREFIX_PATTERN),
}
_WISH: Schema = {
    "type": "object",
    "properties": {
        "endpoint": {
            "type": "string",
            "pattern": _ENDPOINT,
            "x-ms-summary": "Endpoint",
            "description": "Address that the event is posted to.",
            "x-ms-visibility": "internal",
            "x-ms-notification-url": True,
        },
        "filter": _optional(
            "Filter",
            "Which events to post; all of them without one.",
            type="object",
            properties=_FILTER,
            additionalProperties=False,
        ),
        "shape": _optional(
            "Shape", "The PBX's own form (native), or CloudEvents 1.0.", pattern="^(native|cloudevents)$"
        ),
        "secret": _optional("Secret", "Signs what is posted; made for you if you bring none.", pattern=_WHSEC),
    },
    "required": ["endpoint"],
}
_ID: Schema = {
    "name": "webhook_id",
    "in": "path",
    "required": True,
    "type": "string",
    "pattern": "^[0-9a-f]{32}$",
    "x-ms-summary": "Webhook ID",
    "description": "ID of the subscription.",
    "x-ms-url-encoding": "single",
}


def _told(*fields: Field) -> Schema:
    """An envelope with these fields, `data` among them."""
    wrapped = schemas.envelope({"type": "object", "x-nullable": True})
    wrapped["properties"] |= {field.name: schemas.field_schema(field, nullable=False) for field in fields}
    return wrapped


_ENDED: Schema = {"description": "Ended, or not there.", "schema": _told()}


def _subscribe(event: Event) -> Schema:
    row = Operation(
        id=event.name,
        method="POST",
        path=f"webhooks/{event.name}",
        parameters=(),
        summary=schemas.sentence(event.name),
        description=event.description,
    )
    location = {"Location": {"type": "string", "description": "Address that ends the subscription."}}
    made = {"201": {"description": "Subscribed.", "schema": _told(*_MADE), "headers": location}}
    body = {"name": "body", "in": "body", "required": True, "schema": _WISH}
    return described(row, "subscribe", [body], made) | {
        "x-ms-trigger": "single",
        "x-ms-trigger-hint": "To see it work now, make it happen at the PBX.",
    }


def _unsubscribe() -> Schema:
    # Who removes a trigger knows the Location, but sends no key: its id cannot be guessed.
    taken = _ID | {"pattern": f"^(?:{ID_PATTERN})$"}
    return described(operation("DeleteWebhookByID"), "unsubscribe", [taken], {"200": _ENDED}) | {"security": []}


def _leave() -> Schema:
    row = Operation(
        id="Unsubscribe",
        method="POST",
        path="webhooks/unsubscribe",
        parameters=(),
        summary="End subscriptions by address",
        description="Ends all that this address is subscribed to.",
        visibility="internal",
    )
    endpoint = {"type": "string", "minLength": 1, "x-ms-summary": "Endpoint"}
    endpoint |= {"description": "Address that events were posted to."}
    schema = {"type": "object", "properties": {"endpoint": endpoint}, "required": ["endpoint"]}
    body = {"name": "body", "in": "body", "required": True, "schema": schema}
    return described(row, "leave", [body], {"200": _ENDED})


def _rotate() -> Schema:
    row = Operation(
        id="RotateSecret",
        method="POST",
        path="webhooks/{webhook_id}/rotate",
        parameters=(),
        summary="Rotate a subscription's secret",
        description="Makes a new secret; the old one signs beside it for a day.",
        visibility="advanced",
    )
    return described(row, "feed", [_ID], {"200": {"description": "OK", "schema": _told(*_MADE)}})


def _events() -> Schema:
    row = feed.OPERATION
    told = schemas.answer(row)
    told["properties"][feed.CONTINUATION] = _optional("Continuation", "Brings the next part; null at the end.")
    mark = {"name": feed.CONTINUATION, "in": "query", "required": False, "type": "string", "pattern": _MARK}
    mark |= {"x-ms-summary": "Continuation", "description": "What the last answer gave, with the same filters."}
    return described(
        row, "feed", [*map(parameter, row.parameters), mark], {"200": {"description": "OK", "schema": told}}
    )


def _subscriptions() -> Schema:
    told = schemas.answer(_SUBSCRIPTIONS)
    return described(_SUBSCRIPTIONS, "feed", [], {"200": {"description": "OK", "schema": told}})


def add(paths: dict[str, Any]) -> None:
    """Add every event, what looks after subscriptions, and the feed to the paths."""
    for event in SUBSCRIBABLE:
        path = f"webhooks/{event.name}"
        put(paths, path, "post", _subscribe(event))
        content = {"description": event.description, "schema": schemas.notification(event)}
        paths[f"/{path}"]["x-ms-notification-content"] = content
    paths[f"/{_BARE}"] = {"x-ms-notification-content": paths[f"/{_BARE}/{EVENTS[0].name}"]["x-ms-notification-content"]}
    put(paths, operation("DeleteWebhookByID").path, "delete", _unsubscribe())
    put(paths, "webhooks/unsubscribe", "post", _leave())
    put(paths, "webhooks/{webhook_id}/rotate", "post", _rotate())
    put(paths, feed.OPERATION.path, "get", _events())
    put(paths, _SUBSCRIPTIONS.path, "get", _subscriptions())
