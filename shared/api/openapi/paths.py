"""Operations as OpenAPI 2.0 paths: parameters, answers for every status, and what connectors want to know beside."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from shared.api.dial import KEY_HEADER, KEY_PATTERN
from shared.api.list_actions import resource_of
from shared.api.lists import STATE, STATE_PATTERN, TRIGGER_STATE
from shared.api.openapi import schemas
from shared.api.parameters import rule
from shared.errors import (
    AudioTooLarge,
    BridgeError,
    BudgetExhausted,
    DialLimit,
    DialUncertain,
    Invalid,
    KeyReused,
    LengthRequired,
    NotFound,
    NotJson,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
    StorageUnavailable,
    TooLarge,
    TooManySubscriptions,
    WrongContinuation,
    answer_to,
)
from shared.pbx.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.api.openapi.names import Schema
    from shared.pbx.operations import Operation, Parameter

Kind = Literal["action", "dial", "list", "find", "subscribe", "unsubscribe", "leave", "feed", "audio"]

_TYPES: dict[str, Schema] = {
    "integer": {"type": "integer", "format": "int64"},
    "string": {"type": "string"},
    "text": {"type": "string"},
    "date-time": {"type": "string", "format": "date-time"},
}
_KEYED: tuple[Kind, ...] = ("action", "dial", "list", "find", "subscribe", "leave", "feed", "audio")
_WITH_BODY: tuple[Kind, ...] = ("dial", "subscribe", "leave")


_BODY: tuple[type[BridgeError], ...] = (NotJson, LengthRequired, TooLarge)
_PBX = (PbxForbidden, PbxNotFound, PbxRefused, PbxThrottled, PbxUnavailable, PbxNotUnderstood, BudgetExhausted)
# What each kind of operation answers when it does not succeed, beside the key's refusal. The certified connector's
# definition names 403 and 404 for its lists and for the end of webhooks as well.
RAISES: Mapping[Kind, tuple[type[BridgeError], ...]] = {
    "action": (*_PBX, Invalid, StorageUnavailable),
    "dial": (*_PBX, *_BODY, Invalid, StorageUnavailable, DialUncertain, KeyReused, DialLimit),
    "list": (PbxForbidden, PbxNotFound, Invalid, StorageUnavailable),
    "find": (Invalid, StorageUnavailable),
    "subscribe": (*_BODY, Invalid, TooManySubscriptions, StorageUnavailable),
    "unsubscribe": (PbxForbidden, NotFound, Invalid, StorageUnavailable),
    "leave": (*_BODY, Invalid, StorageUnavailable),
    "feed": (WrongContinuation, NotFound, Invalid, StorageUnavailable),
    "audio": (NotFound, AudioTooLarge, StorageUnavailable),
}
_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_RETRY_AFTER: Schema = {"Retry-After": {"type": "integer", "description": "Seconds to wait before asking again."}}
_LOCATION: Schema = {"Location": {"type": "string", "description": "Address to ask next."}}
_UNAUTHORIZED: Schema = {"description": "The function key is missing or wrong."}


def parameter(row: Parameter) -> Schema:
    """A parameter of the path or query. What has a default can be left out."""
    schema: Schema = {
        "name": row.name,
        "in": row.where,
        "required": row.required and row.default is None,
        **_TYPES[row.type],
        **schemas.bounds(rule(row)),
        "x-ms-summary": row.title,
        "description": row.description,
    }
    if row.choices:
        schema["enum"] = list(row.choices)
    if row.default is not None:
        # Empty is none, too.
        schema |= {"default": row.default} | ({"allowEmptyValue": True} if row.where == "query" else {})
    if row.visibility:
        schema["x-ms-visibility"] = row.visibility
    return schema | schemas.choices(row.name) | ({"x-ms-url-encoding": "single"} if row.where == "path" else {})


def body(schema: Schema) -> Schema:
    """The parameter that takes a schema in the body."""
    return {"name": "body", "in": "body", "required": True, "schema": schema}


def refusals(kind: Kind) -> Schema:
    """The answers of a kind of operation that are no success, by status."""
    described: Schema = {}
    for error in RAISES[kind]:
        row = answer_to(error)
        answer = described.setdefault(str(row.status), {"description": f"{row.title}."})
        if row.title not in answer["description"]:
            answer["description"] += f" {row.title}."
        # This one is plain text.
        if error is not LengthRequired:
            answer["schema"] = schemas.refusal()
        if row.status in _LATER:
            answer["headers"] = _RETRY_AFTER
    return described | ({"401": _UNAUTHORIZED} if kind in _KEYED else {})


def described(row: Operation, kind: Kind, parameters: Iterable[Schema], successes: Schema, tag: str) -> Schema:
    """An operation with all that it takes and answers, among those of its tag."""
    schema: Schema = {
        "tags": [tag],
        "operationId": row.id,
        "summary": row.summary,
        "description": row.description,
        "x-ms-visibility": row.visibility,
        "parameters": list(parameters),
        "responses": dict(sorted((successes | refusals(kind)).items())),
    }
    if not row.visibility:
        del schema["x-ms-visibility"]
    return schema | ({"consumes": ["application/json"]} if kind in _WITH_BODY else {})


_KEY: Schema = {
    "name": KEY_HEADER,
    "in": "header",
    "required": False,
    "type": "string",
    "pattern": f"^{KEY_PATTERN}$",
    "x-ms-summary": "Idempotency Key",
    "description": "Text of your own that names this call; the same one within an hour does not ring twice.",
    "x-ms-visibility": "advanced",
}
# Makers see neither: the connector's policy fills in the one, Logic Apps' HTTP trigger the other. A connector sends the
# default of what is internal, so its first poll begins with the present.
_STATES: tuple[Schema, ...] = tuple(
    {
        "name": name,
        "in": "query",
        "required": False,
        "type": "string",
        "pattern": STATE_PATTERN,
        "allowEmptyValue": True,
        "x-ms-summary": title,
        "description": description,
        "x-ms-visibility": "internal",
        **default,
    }
    for name, title, default, description in (
        (STATE, "State", {"default": "now"}, "Brings all that arrived after it: now, or what the last answer gave."),
        (TRIGGER_STATE, "Trigger State", {}, "For polling by Location: now at first, then what the last one says."),
    )
)


def _tag(row: Operation) -> str:
    """What an operation is about: a resource, or calls."""
    parts = row.path.removeprefix("trigger/").split("/")
    names = [resource.name for resource in RESOURCES if resource.name == parts[0]]
    return (names[0] if names else "calls").replace("_", " ").capitalize()


def action(row: Operation) -> Schema:
    """An action."""
    in_body = tuple(given for given in row.parameters if given.where == "body")
    taken = [parameter(given) for given in row.parameters if given.where != "body"]
    taken += [body(schemas.body(f"{row.id}Request", in_body))] if in_body else []
    kind: Kind = "dial" if row.command else "action"
    taken += [_KEY] if kind == "dial" else []
    return described(row, kind, taken, {"200": {"description": "OK", "schema": schemas.answer(row)}}, _tag(row))


def list_action(row: Operation) -> Schema:
    """A list action, from the app's own storage."""
    schema = schemas.found(row, resource_of(row))
    return described(
        row, "find", map(parameter, row.parameters), {"200": {"description": "OK", "schema": schema}}, _tag(row)
    )


def listing(row: Operation) -> Schema:
    """A list, which is a polling trigger in three ways: by the newest item's id, by state, and by Location."""
    state = {"type": "string", "x-ms-summary": "State", "description": "What to ask by next, as the parameter state."}
    state |= {"x-ms-visibility": "internal"}
    answer = {"schema": schemas.batch(row, **{STATE: state}), "headers": _LOCATION | _RETRY_AFTER}
    successes: Schema = {"200": {"description": "OK"} | answer, "202": {"description": "Nothing new."} | answer}
    taken = (*map(parameter, row.parameters), *_STATES)
    return described(row, "list", taken, successes, _tag(row)) | {
        "x-ms-trigger": "batch",
        "x-ms-trigger-metadata": {"mode": "polling", "kind": "query"},
        "x-ms-trigger-hint": "To see it work now, make something new of its kind at the PBX.",
    }


def put(paths: dict[str, Any], path: str, method: str, schema: Schema) -> None:
    """Add an operation to the paths, beside what its path has already."""
    paths.setdefault(f"/{path}", {})[method.lower()] = schema
