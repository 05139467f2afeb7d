"""Events as OpenAPI 2.0: webhook triggers, what is posted then, how subscriptions are looked after, and the feed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api import feed
from shared.api.openapi import schemas
from shared.api.openapi.deliveries import notification
from shared.api.openapi.paths import body, described, parameter, put
from shared.api.openapi.requests import subscribe_request, unsubscribe_request
from shared.api.subscribe import ID_HEADER, ID_PATTERN, LISTED
from shared.events.table import EVENTS, Event
from shared.pbx.fields import Field
from shared.pbx.operations import Operation, operation

if TYPE_CHECKING:
    from shared.api.openapi.names import Schema

SUBSCRIBABLE: tuple[Event, ...] = EVENTS
# The certified definition describes this path, which nothing is served at; a copy keeps ours a superset.
_BARE = "webhooks"
_MARK = r"^[A-Za-z0-9_-]{1,1000}$"
_EVENTS = "Events"
_OWN = "Subscriptions"

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
_RIGHT = Field("data", "string", "The right to end the subscription, as in Location; a secret.")
_SECRET = Field("secret", "string", "Signs what is posted.")
_ID: Schema = {
    "name": "webhook_id",
    "in": "path",
    "required": True,
    "type": "string",
    "pattern": "^[0-9a-f]{32}$",
    "x-ms-summary": "Webhook ID",
    "description": "The right to end the subscription, which its Location ends with.",
    "x-ms-url-encoding": "single",
}


def _with_secret(name: str) -> Schema:
    """An envelope with the right to end a subscription and, where there is a new one, its secret."""
    data, secret = (schemas.field_schema(field, of=name, nullable=False) for field in (_RIGHT, _SECRET))
    return schemas.envelope(name, data, secret=secret)


def _subscribe(event: Event) -> Schema:
    row = Operation(
        id=event.name,
        method="POST",
        path=f"webhooks/{event.name}",
        parameters=(),
        summary=schemas.sentence(event.name),
        description=event.description,
    )
    headers = {
        "Location": {"type": "string", "description": "Address that ends the subscription; a secret."},
        ID_HEADER: {"type": "string", "description": "What the subscription is called in lists and logs."},
    }
    made = {"201": {"description": "Subscribed.", "schema": _with_secret("SubscribedAnswer"), "headers": headers}}
    return described(row, "subscribe", [body(subscribe_request())], made, _EVENTS) | {
        "x-ms-trigger": "single",
        "x-ms-trigger-hint": "To see it work now, make it happen at the PBX.",
    }


def _unsubscribe() -> Schema:
    # Who removes a trigger knows the Location, but sends no key: its id cannot be guessed.
    taken = _ID | {"pattern": f"^(?:{ID_PATTERN})$"}
    return described(operation("DeleteWebhookByID"), "unsubscribe", [taken], _ended(), _OWN) | {"security": []}


def _ended() -> Schema:
    return {"200": {"description": "Ended, or not there.", "schema": schemas.done()}}


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
    return described(row, "leave", [body(unsubscribe_request())], _ended(), _OWN)


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
    made = {"200": {"description": "OK", "schema": _with_secret("SubscribedAnswer")}}
    return described(row, "feed", [_ID], made, _OWN)


def _events() -> Schema:
    row = feed.OPERATION
    following = Field(feed.CONTINUATION, "string", "Brings the next part; null at the end.")
    answer = schemas.answer(row, **{feed.CONTINUATION: schemas.field_schema(following, of=row.id)})
    mark = {"name": feed.CONTINUATION, "in": "query", "required": False, "type": "string", "pattern": _MARK}
    mark |= {"x-ms-summary": "Continuation", "description": "What the last answer gave, with the same filters."}
    made = {"200": {"description": "OK", "schema": answer}}
    return described(row, "feed", [*map(parameter, row.parameters), mark], made, _EVENTS)


def _subscriptions() -> Schema:
    made = {"200": {"description": "OK", "schema": schemas.answer(_SUBSCRIPTIONS)}}
    return described(_SUBSCRIPTIONS, "feed", [], made, _OWN)


def add(paths: dict[str, Any]) -> None:
    """Add every event, what looks after subscriptions, and the feed to the paths."""
    for event in SUBSCRIBABLE:
        path = f"webhooks/{event.name}"
        put(paths, path, "post", _subscribe(event))
        content = {"description": event.description, "schema": notification(event)}
        paths[f"/{path}"]["x-ms-notification-content"] = content
    paths[f"/{_BARE}"] = {"x-ms-notification-content": paths[f"/{_BARE}/{EVENTS[0].name}"]["x-ms-notification-content"]}
    put(paths, operation("DeleteWebhookByID").path, "delete", _unsubscribe())
    put(paths, "webhooks/unsubscribe", "post", _leave())
    put(paths, "webhooks/{webhook_id}/rotate", "post", _rotate())
    put(paths, feed.OPERATION.path, "get", _events())
    put(paths, _SUBSCRIPTIONS.path, "get", _subscriptions())
