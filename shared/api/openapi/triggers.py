"""Events as OpenAPI 2.0: webhook triggers, what is posted then, how subscriptions are looked after, and the feed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from shared.api.continuations import CONTINUATION, PATTERN
from shared.api.openapi import schemas
from shared.api.openapi.paths import body, described, listing, ok, parameter, put
from shared.api.openapi.requests import subscribe_request, unsubscribe_request
from shared.api.operations import GET_CALL, GET_CALLS, GET_ENDED_CALLS, GET_EVENTS, GET_LOST_CALLERS
from shared.api.subscribe import ID_HEADER, ID_PATTERN, LISTED
from shared.events.table import EVENTS, Event
from shared.pbx.fields import Field, Shape
from shared.pbx.operations import Operation, operation

if TYPE_CHECKING:
    from shared.api.openapi.schemas import Schema

_WRAPPING: Shape = (
    Field("type", "string", "Always Event."),
    Field("eventType", "string", "Name of the event."),
    Field("version", "string", "Version of the event's form."),
)
_EVENTS, _OWN, _CALLS = "Events", "Subscriptions", "Calls"
_SUBSCRIPTIONS = Operation(
    id="GetSubscriptions",
    path="subscriptions",
    parameters=(),
    summary="List subscriptions",
    description="Lists subscriptions with the state of their deliveries.",
    lists=True,
    item=LISTED,
    visibility="advanced",
)
_post = partial(Operation, method="POST", parameters=())
_UNSUBSCRIBE = _post(
    id="Unsubscribe",
    path="webhooks/unsubscribe",
    summary="End subscriptions by address",
    description="Ends all that this address is subscribed to.",
    visibility="internal",
)
_ROTATE = _post(
    id="RotateSecret",
    path="webhooks/{webhook_id}/rotate",
    summary="Rotate a subscription's secret",
    description="Makes a new secret; the old one signs beside it for a day.",
    visibility="advanced",
)
_ID = schemas.text(
    "webhook_id",
    "path",
    "^[0-9a-f]{32}$",
    "The right to end the subscription, which its Location ends with.",
    required=True,
) | {"x-ms-url-encoding": "single"}


def notification(event: Event) -> Schema:
    """Return the schema of a post to a subscriber: the PBX's own wrapping around the event's data."""
    data = schemas.object_schema(f"{event.model.name}Data", event.model.fields, required=event.model.required)
    return schemas.object_schema(
        f"{event.name}Event", _WRAPPING, required=("eventType", "data"), nullable=False, more={"data": data}
    )


def _with_secret() -> Schema:
    """An envelope with the right to end a subscription and, where there is a new one, its secret."""
    name = "SubscribedAnswer"
    right = Field("data", "string", "The right to end the subscription, as in Location; a secret.")
    secret = Field("secret", "string", "Signs what is posted.")
    data, beside = (schemas.field_schema(field, of=name, nullable=False) for field in (right, secret))
    return schemas.envelope(name, data, secret=beside)


def _subscribe(paths: dict[str, Any], event: Event) -> None:
    row = _post(
        id=event.name,
        path=f"webhooks/{event.name}",
        summary=schemas.sentence(event.name),
        description=event.description,
    )
    headers = {
        "Location": {"type": "string", "description": "Address that ends the subscription; a secret."},
        ID_HEADER: {"type": "string", "description": "What the subscription is called in lists and logs."},
    }
    made = {"201": {"description": "Subscribed.", "schema": _with_secret(), "headers": headers}}
    trigger = {"x-ms-trigger": "single", "x-ms-trigger-hint": "To see it work now, make it happen at the PBX."}
    put(paths, row, described(row, "subscribe", [body(subscribe_request())], made, _EVENTS) | trigger)
    content = {"description": event.description, "schema": notification(event)}
    paths[f"/{row.path}"]["x-ms-notification-content"] = content


def _paged(row: Operation, tag: str, noun: str = "") -> Schema:
    """Return a list that is read a part at a time."""
    following = Field(CONTINUATION, "string", "Token of the next page; null at the end.")
    answer = schemas.answer(row, noun=noun, **{CONTINUATION: schemas.field_schema(following, of=row.id)})
    said = "What the last answer gave, with the same filters."
    mark = schemas.text(CONTINUATION, "query", PATTERN, said)
    return described(row, "feed", [*map(parameter, row.parameters), mark], ok(answer), tag)


def add(paths: dict[str, Any]) -> None:
    """Add every event, what looks after subscriptions, and the feed to the paths."""
    for event in EVENTS:
        _subscribe(paths, event)
    # The certified definition describes this path, which nothing is served at; a copy keeps ours a superset.
    name = "x-ms-notification-content"
    paths["/webhooks"] = {name: paths[f"/webhooks/{EVENTS[0].name}"][name]}
    ended, row = ok(schemas.done(), "Ended, or not there."), operation("DeleteWebhookByID")
    # Who removes a trigger knows the Location, but sends no key: its id cannot be guessed.
    taken = _ID | {"pattern": f"^(?:{ID_PATTERN})$"}
    put(paths, row, described(row, "unsubscribe", [taken], ended, _OWN) | {"security": []})
    put(paths, _UNSUBSCRIBE, described(_UNSUBSCRIBE, "leave", [body(unsubscribe_request())], ended, _OWN))
    put(paths, _ROTATE, described(_ROTATE, "feed", [_ID], ok(_with_secret()), _OWN))
    put(paths, GET_EVENTS, _paged(GET_EVENTS, _EVENTS))
    put(paths, GET_CALLS, _paged(GET_CALLS, _CALLS, "CallStory"))
    lost = ok(schemas.answer(GET_LOST_CALLERS))
    filters = map(parameter, GET_LOST_CALLERS.parameters)
    put(paths, GET_LOST_CALLERS, described(GET_LOST_CALLERS, "find", filters, lost, _CALLS))
    put(paths, GET_ENDED_CALLS, listing(GET_ENDED_CALLS, "CallStory"))
    one = ok(schemas.answer(GET_CALL, noun="WholeCall"))
    put(paths, GET_CALL, described(GET_CALL, "feed", map(parameter, GET_CALL.parameters), one, _CALLS))
    put(paths, _SUBSCRIPTIONS, described(_SUBSCRIPTIONS, "feed", [], ok(schemas.answer(_SUBSCRIPTIONS)), _OWN))
