"""Operations as OpenAPI 2.0 paths: parameters, answers for every status, and what connectors want to know beside."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from shared import errors
from shared.api import sheets
from shared.api.dial import KEY_HEADER, KEY_PATTERN
from shared.api.lists import STATE, STATE_PATTERN, TRIGGER_STATE, resource_of
from shared.api.openapi import schemas
from shared.api.operations import FORMAT
from shared.media.serve import NAME_PATTERN
from shared.media.table import MEDIA
from shared.pbx.operations import Operation, Parameter
from shared.pbx.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.api.openapi.schemas import Schema

Kind = Literal["action", "dial", "list", "find", "subscribe", "unsubscribe", "leave", "feed", "audio"]
Errors = tuple[errors.Answer, ...]

_NOT_FOUND, _FORBIDDEN = errors.ANSWERS[errors.NotFound], errors.ANSWERS[errors.PbxForbidden]
_UNAVAILABLE = errors.ANSWERS[errors.StorageUnavailable]
_OURS: Errors = (errors.INVALID_FIELDS, _UNAVAILABLE)
_BODY: Errors = (errors.INVALID_JSON, errors.NO_LENGTH, errors.BODY_TOO_LARGE)
_PBX: Errors = tuple(
    row for kind, row in errors.ANSWERS.items() if issubclass(kind, errors.PbxError | errors.BudgetExhausted)
)
# What each kind of operation answers when it does not succeed, beside the key's refusal. The certified connector's
# definition names 403 and 404 for its lists and for the end of webhooks as well.
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


def parameter(row: Parameter) -> Schema:
    """A parameter of the path or query. What has a default can be left out."""
    place = {"name": row.name, "in": row.where, "required": row.required and row.default is None}
    return place | schemas.value_schema(row) | ({"x-ms-url-encoding": "single"} if row.where == "path" else {})


def body(schema: Schema) -> Schema:
    """The parameter that takes a schema in the body."""
    return {"name": "body", "in": "body", "required": True, "schema": schema}


def ok(schema: Schema, description: str = "OK") -> Schema:
    """The answer of what succeeds."""
    return {"200": {"description": description, "schema": schema}}


def refusals(kind: Kind) -> Schema:
    """The answers of a kind of operation that are no success, by status."""
    described: Schema = {}
    for row in RAISES[kind]:
        answer = described.setdefault(str(row.status), {"description": f"{row.title}."})
        if row.title not in answer["description"]:
            answer["description"] += f" {row.title}."
        # This one is plain text.
        if row is not errors.NO_LENGTH:
            answer["schema"] = schemas.refusal()
        if row.status in _LATER:
            answer["headers"] = _RETRY_AFTER
    return described | ({"401": _UNAUTHORIZED} if kind != "unsubscribe" else {})


def described(row: Operation, kind: Kind, parameters: Iterable[Schema], successes: Schema, tag: str) -> Schema:
    """An operation with all that it takes and answers, among those of its tag."""
    taken = list(parameters)
    schema: Schema = {"tags": [tag], "operationId": row.id, "summary": row.summary, "description": row.description}
    schema |= {"x-ms-visibility": row.visibility} if row.visibility else {}
    schema |= {"parameters": taken, "responses": dict(sorted((successes | refusals(kind)).items()))}
    schema |= {"consumes": ["application/json"]} if any(one["in"] == "body" for one in taken) else {}
    as_file = FORMAT in row.parameters
    return schema | ({"produces": ["application/json", *sheets.CONTENT_TYPES.values()]} if as_file else {})


_KEY = schemas.text(
    KEY_HEADER,
    "header",
    f"^{KEY_PATTERN}$",
    "Text of your own for this call; the same one within an hour does not ring twice.",
) | {"x-ms-visibility": "advanced"}
# Makers see neither: the connector's policy fills in the one, Logic Apps' HTTP trigger the other. A connector sends the
# default of what is internal, so its first poll begins with the present.
_STATES: tuple[Schema, ...] = tuple(
    schemas.text(name, "query", STATE_PATTERN, description, allowEmptyValue=True)
    | {"x-ms-visibility": "internal", **default}
    for name, default, description in (
        (STATE, {"default": "now"}, "Lists what arrived after it: now, or the state of the last answer."),
        (TRIGGER_STATE, {}, "For polling by Location: now at first, then what the last one says."),
    )
)


def _tag(row: Operation) -> str:
    """Return the subject of an operation: a resource, or calls."""
    name = row.path.removeprefix("trigger/").split("/")[0]
    return (name if name in {resource.name for resource in RESOURCES} else "calls").replace("_", " ").capitalize()


def action(row: Operation) -> Schema:
    """An action."""
    in_body = tuple(given for given in row.parameters if given.where == "body")
    taken = [parameter(given) for given in row.parameters if given.where != "body"]
    taken += [body(schemas.body(f"{row.id}Request", in_body))] if in_body else []
    taken += [_KEY] if row.command else []
    return described(row, "dial" if row.command else "action", taken, ok(schemas.answer(row)), _tag(row))


def list_action(row: Operation) -> Schema:
    """A list action, from the app's own storage."""
    return described(row, "find", map(parameter, row.parameters), ok(schemas.found(row, resource_of(row))), _tag(row))


def listing(row: Operation, noun: str = "") -> Schema:
    """A list, which is a polling trigger in three ways: by the newest item's id, by state, and by Location."""
    state = {"type": "string", "x-ms-summary": "State", "description": "What to ask by next, as the parameter state."}
    state |= {"x-ms-visibility": "internal"}
    answer = {"schema": schemas.answer(row, "Batch", noun=noun, state=state), "headers": _LOCATION | _RETRY_AFTER}
    successes: Schema = {"200": {"description": "OK"} | answer, "202": {"description": "Nothing new."} | answer}
    taken = (*map(parameter, row.parameters), *_STATES)
    return described(row, "list", taken, successes, _tag(row)) | {
        "x-ms-trigger": "batch",
        "x-ms-trigger-metadata": {"mode": "polling", "kind": "query"},
        "x-ms-trigger-hint": "To see it work now, make something new of its kind at the PBX.",
    }


_NAMED_SO = "What the event of the stored audio names so."
AUDIO = Operation(
    id="GetAudio",
    path="media/{container}",
    parameters=(
        Parameter(
            "container",
            "Container",
            _NAMED_SO,
            where="path",
            type="string",
            required=True,
            choices=tuple(media.container for media in MEDIA),
        ),
    ),
    summary="Get stored audio",
    description="Returns the audio of a recording or voicemail in Blob Storage, up to 32 MiB.",
)


def audio(row: Operation) -> Schema:
    """The one operation whose answer is a file."""
    # Connectors take the format, with which a string is bytes.
    file = {"type": "string", "format": "binary", "x-ms-summary": "Audio", "description": "The file."}
    name = schemas.text("blobName", "query", f"^{NAME_PATTERN}$", _NAMED_SO, required=True)
    produces = ["audio/mpeg", "audio/wav", "application/octet-stream", "application/json"]
    return described(row, "audio", [*map(parameter, row.parameters), name], ok(file), "Audio") | {"produces": produces}


def put(paths: dict[str, Any], row: Operation, schema: Schema) -> None:
    """Add an operation to the paths, beside what its path has already."""
    paths.setdefault(f"/{row.path}", {})[row.method.lower()] = schema
