"""The OpenAPI 2.0 definition of /api/v2, built from the tables that the app answers from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, Literal

from shared import errors
from shared.api import operations, schemas, sheets
from shared.api.actions import KEY_HEADER, KEY_PATTERN
from shared.api.envelopes import CONTINUATION, CONTINUATION_PATTERN
from shared.api.lists import STATE, STATE_PATTERN, TRIGGER_STATE
from shared.api.operations import GET_CALL, GET_CALLS, GET_ENDED_CALLS, GET_EVENTS, GET_LOST_CALLERS
from shared.api.schemas import Schema, answer, text
from shared.api.subscribe import ID_HEADER, ID_PATTERN, LISTED
from shared.events.table import EVENTS, Event
from shared.media.blobs import MEDIA, NAME_PATTERN
from shared.pbx.fields import Field
from shared.pbx.operations import Operation, Parameter, operation
from shared.pbx.resources import RESOURCES

BASE_PATH = "/api/v2"
KEY = "api_key"
_INFO: Schema = {
    "title": "PBX bridge",
    "description": (
        "Calls, recordings, voicemails and contacts of a mobile virtual PBX (LMT Zvanu parvaldnieks, Tele2 Mobili "
        "stotele) for flows: any number of triggers for each event, lists that miss nothing, and actions."
    ),
    "version": "2.0.0",
    "contact": {"name": "The owner of this function app", "url": "https://zvanuparvaldnieks.lmt.lv"},
}
_METADATA = (
    ("Website", "https://zvanuparvaldnieks.lmt.lv"),
    ("Privacy policy", "https://www.lmt.lv/en/data-processing"),
    ("Categories", "Communication;IT Operations"),
)
_SECURITY: Schema = {
    "type": "apiKey",
    "in": "header",
    "name": "x-functions-key",
    "description": "A function key of the app.",
}

Kind = Literal["action", "dial", "list", "find", "subscribe", "unsubscribe", "leave", "feed", "audio"]
Errors = tuple[errors.Answer, ...]

_NOT_FOUND, _FORBIDDEN = errors.ANSWERS[errors.NotFound], errors.ANSWERS[errors.PbxForbidden]
_UNAVAILABLE = errors.ANSWERS[errors.StorageUnavailable]
_OURS: Errors = (errors.INVALID_FIELDS, _UNAVAILABLE)
_BODY: Errors = (errors.INVALID_JSON, errors.NO_LENGTH, errors.BODY_TOO_LARGE)
_PBX: Errors = tuple(
    row for kind, row in errors.ANSWERS.items() if issubclass(kind, errors.PbxError | errors.BudgetExhausted)
)
# The errors of each kind of operation, besides a missing or wrong key. As in the certified connector's definition,
# lists and the end of webhooks have 403 and 404, too.
RAISES: Mapping[Kind, Errors] = {
    "action": (*_PBX, *_OURS),
    "dial": (*_PBX, *_BODY, *_OURS, errors.DIAL_UNCERTAIN, errors.KEY_REUSED, errors.DIAL_LIMIT),
    "list": (_FORBIDDEN, errors.ANSWERS[errors.PbxNotFound], *_OURS),
    "find": _OURS,
    "subscribe": (*_BODY, *_OURS, errors.TOO_MANY_SUBSCRIPTIONS),
    "unsubscribe": (_FORBIDDEN, _NOT_FOUND, *_OURS),
    "leave": (*_BODY, *_OURS),
    "feed": (errors.INVALID_CONTINUATION, _NOT_FOUND, *_OURS),
    "audio": (_NOT_FOUND, errors.AUDIO_TOO_LARGE, _UNAVAILABLE),
}
_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_RETRY_AFTER: Schema = {"Retry-After": {"type": "integer", "description": "Seconds to wait before asking again."}}
_LOCATION: Schema = {"Location": {"type": "string", "description": "Address to ask next."}}
_UNAUTHORIZED: Schema = {"description": "The function key is missing or wrong."}
_BINARY: Schema = {"type": "string", "format": "binary", "x-ms-summary": "Audio", "description": "The file."}

_SAME = "Text of your own for this call; a request with the same text within an hour does not ring again."
_KEY = text(KEY_HEADER, "header", f"^{KEY_PATTERN}$", _SAME) | {"x-ms-visibility": "advanced"}
_CONTINUATION = text(
    CONTINUATION, "query", CONTINUATION_PATTERN, "Token from the last answer; the filters have to be the same."
)
# Makers see neither of these: the connector's policy sets `state`, Logic Apps' HTTP trigger `triggerState`. A connector
# sends the defaults of internal parameters, so its first poll begins with the present.
_STATES: tuple[Schema, ...] = tuple(
    text(name, "query", STATE_PATTERN, description, allowEmptyValue=True) | {"x-ms-visibility": "internal", **default}
    for name, default, description in (
        (STATE, {"default": "now"}, "Lists items that arrived after it: now, or the state of the last answer."),
        (TRIGGER_STATE, {}, "For polling by Location: now at first, then the value in the last Location."),
    )
)
_RIGHT = "The right to end the subscription, which its Location ends with."
_ID = text("webhook_id", "path", "^[0-9a-f]{32}$", _RIGHT, required=True) | {"x-ms-url-encoding": "single"}
_NAMED_SO = "Value of the same name in the event of the stored audio."
_BLOB = text("blobName", "query", f"^{NAME_PATTERN}$", _NAMED_SO, required=True)

_CONTAINERS = tuple(media.container for media in MEDIA)
_CONTAINER = Parameter(
    "container", "Container", _NAMED_SO, where="path", type="string", required=True, choices=_CONTAINERS
)
_AUDIO = Operation(
    id="GetAudio",
    path="media/{container}",
    parameters=(_CONTAINER,),
    summary="Get stored audio",
    description="Returns the audio of a recording or voicemail in Blob Storage, up to 32 MiB.",
)
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
    description="Ends all subscriptions of a callback address.",
    visibility="internal",
)
_ROTATE = _post(
    id="RotateSecret",
    path="webhooks/{webhook_id}/rotate",
    summary="Rotate a subscription's secret",
    description="Makes a new secret; for a day, the old secret signs posts, too.",
    visibility="advanced",
)


def definition(scheme: str, host: str, path: str = "") -> dict[str, Any]:
    """Return the definition of an app at `scheme://host` and a path, without secrets and whatever the settings."""
    tags = {name for methods in PATHS.values() for part in methods.values() for name in part.get("tags", ())}
    return {
        "swagger": "2.0",
        "info": _INFO,
        "host": host,
        "basePath": path + BASE_PATH,
        "schemes": [scheme],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "tags": [{"name": name, "description": f"Operations on {name.lower()}."} for name in sorted(tags)],
        "paths": PATHS,
        "definitions": dict(sorted(schemas.DEFINITIONS.items())),
        "securityDefinitions": {KEY: _SECURITY},
        "security": [{KEY: []}],
        "x-ms-connector-metadata": [{"propertyName": name, "propertyValue": value} for name, value in _METADATA],
    }


@lru_cache(maxsize=16)
def served(scheme: str, host: str, path: str = "") -> tuple[bytes, str]:
    """Return the definition as JSON, and its ETag."""
    body = json.dumps(definition(scheme, host, path), ensure_ascii=False, separators=(",", ":")).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _paths() -> Schema:
    """Return the paths of all operations; those that subscribe also describe the posts to subscribers."""
    paths: Schema = {}
    for row, schema in _operations():
        paths.setdefault(f"/{row.path}", {})[row.method.lower()] = schema
    name = "x-ms-notification-content"
    for event in EVENTS:
        content = {"description": event.description, "schema": schemas.notification(event)}
        paths[f"/webhooks/{event.name}"][name] = content
    # The certified definition has this path, which is not served; with it ours is a superset.
    return paths | {"/webhooks": {name: paths[f"/webhooks/{EVENTS[0].name}"][name]}}


def _operations() -> Iterator[tuple[Operation, Schema]]:
    for row in operations.ACTIONS:
        body = [parameter for parameter in row.parameters if parameter.where == "body"]
        more = [schemas.body(f"{row.id}Request", body)] if body else []
        more += [_KEY] if row.command else []
        yield row, _described(row, "dial" if row.command else "action", _ok(answer(row)), *more)
    for row in (*operations.LISTS, GET_ENDED_CALLS):
        yield row, _listing(row)
    for row in (*operations.LIST_ACTIONS, GET_LOST_CALLERS):
        yield row, _described(row, "find", _ok(answer(row)))
    for event in EVENTS:
        yield _subscribe(event)
    for row in (GET_EVENTS, GET_CALLS):
        following = Field(CONTINUATION, "string", "Token of the next page; null at the end.")
        beside = {CONTINUATION: schemas.field_schema(following, of=row.id)}
        yield row, _described(row, "feed", _ok(answer(row, beside)), _CONTINUATION)
    for row in (GET_CALL, _SUBSCRIPTIONS):
        yield row, _described(row, "feed", _ok(answer(row)))
    yield _ROTATE, _described(_ROTATE, "feed", _ok(_with_secret()), _ID)
    ended = _ok(answer(_UNSUBSCRIBE), "Ended, or did not exist.")
    yield _UNSUBSCRIBE, _described(_UNSUBSCRIBE, "leave", ended, schemas.in_body(schemas.unsubscribe_request()))
    # A connector that removes its trigger sends no key; the id from Location cannot be guessed.
    row = replace(operation("DeleteWebhookByID"), parameters=())
    yield row, _described(row, "unsubscribe", ended, _ID | {"pattern": f"^(?:{ID_PATTERN})$"}) | {"security": []}
    produces = ["audio/mpeg", "audio/wav", "application/octet-stream", "application/json"]
    # Connectors read a string of format `binary` as bytes.
    yield _AUDIO, _described(_AUDIO, "audio", _ok(_BINARY), _BLOB) | {"produces": produces}


def _ok(schema: Schema, description: str = "OK") -> Schema:
    return {"200": {"description": description, "schema": schema}}


def _described(row: Operation, kind: Kind, successes: Schema, *more: Schema) -> Schema:
    """Return an operation with its parameters, `more` included, and its answers."""
    parameters = [*(schemas.parameter(one) for one in row.parameters if one.where != "body"), *more]
    schema: Schema = {"tags": [_tag(row)], "operationId": row.id, "summary": row.summary}
    schema |= {"description": row.description} | ({"x-ms-visibility": row.visibility} if row.visibility else {})
    schema |= {"parameters": parameters, "responses": dict(sorted((successes | _refusals(kind)).items()))}
    schema |= {"consumes": ["application/json"]} if any(parameter["in"] == "body" for parameter in parameters) else {}
    is_file = operations.FORMAT in row.parameters
    return schema | ({"produces": ["application/json", *sheets.CONTENT_TYPES.values()]} if is_file else {})


def _tag(row: Operation) -> str:
    """Return the subject of an operation by the first part of its path; calls for all others."""
    first, _, rest = row.path.removeprefix("trigger/").partition("/")
    if first == "webhooks":
        return "Events" if rest in {event.name for event in EVENTS} else "Subscriptions"
    if first == "media":
        return "Audio"
    known = {"events", "subscriptions", *(resource.name for resource in RESOURCES)}
    return first.replace("_", " ").capitalize() if first in known else "Calls"


def _refusals(kind: Kind) -> Schema:
    """Return the errors of a kind of operation, by status."""
    described: Schema = {}
    for row in RAISES[kind]:
        response = described.setdefault(str(row.status), {"description": f"{row.title}."})
        if row.title not in response["description"]:
            response["description"] += f" {row.title}."
        # Its answer is plain text.
        if row is not errors.NO_LENGTH:
            response["schema"] = schemas.refusal()
        if row.status in _LATER:
            response["headers"] = _RETRY_AFTER
    return described | ({"401": _UNAUTHORIZED} if kind != "unsubscribe" else {})


def _listing(row: Operation) -> Schema:
    """Return a list as a polling trigger, by the newest item's id, by `state`, or by Location."""
    field = Field(STATE, "string", "Value of the parameter state in the next request.")
    state = schemas.field_schema(field, of=row.id, nullable=False) | {"x-ms-visibility": "internal"}
    page = {"schema": answer(row, {STATE: state}), "headers": _LOCATION | _RETRY_AFTER}
    successes: Schema = {"200": {"description": "OK"} | page, "202": {"description": "Nothing new."} | page}
    return _described(row, "list", successes, *_STATES) | {
        "x-ms-trigger": "batch",
        "x-ms-trigger-metadata": {"mode": "polling", "kind": "query"},
        "x-ms-trigger-hint": "To see it work now, make something new of its kind at the PBX.",
    }


def _subscribe(event: Event) -> tuple[Operation, Schema]:
    name, summary = event.name, schemas.sentence(event.name)
    row = _post(id=name, path=f"webhooks/{name}", summary=summary, description=event.description)
    headers = {
        "Location": {"type": "string", "description": "Address that ends the subscription; a secret."},
        ID_HEADER: {"type": "string", "description": "Id of the subscription in lists and logs."},
    }
    made = {"201": {"description": "Subscribed.", "schema": _with_secret(), "headers": headers}}
    schema = _described(row, "subscribe", made, schemas.in_body(schemas.subscribe_request()))
    return row, schema | {
        "x-ms-trigger": "single",
        "x-ms-trigger-hint": "To see it work now, make it happen at the PBX.",
    }


def _with_secret() -> Schema:
    """Return the schema of an envelope with the right to end a subscription, and its secret if that is new."""
    name = "SubscribedAnswer"
    right = Field("data", "string", "The right to end the subscription, as in Location; a secret.")
    secret = Field("secret", "string", "Signs what is posted.")
    data, beside = (schemas.field_schema(field, of=name, nullable=False) for field in (right, secret))
    return schemas.envelope(name, data, {"secret": beside})


# The same for every app.
PATHS = _paths()
