"""HTTP triggers of the API: one for each of its operations, stored audio, and the definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import azure.functions as func

from functions.requests import address, request_of
from functions.responses import as_json, refusal, register
from shared.api import operations
from shared.api.envelopes import Page
from shared.api.parameters import Request, check_names, takes_body
from shared.bridge import Bridge, bridge
from shared.pbx.operations import Operation

if TYPE_CHECKING:
    from shared.api.sheets import File

    Work = Callable[[Bridge, Operation, Request], dict[str, Any] | Page | File]

blueprint = func.Blueprint()

_AUDIO_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# Logic Apps' designer fetches the definition from the maker's browser.
_OPEN = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300", "Vary": "Host"}


# These modules are imported on the first request, so that no receiver's cold start loads them.
@cache
def _work() -> Mapping[Operation, Work]:
    from shared.api import actions, calls, lists

    return {
        **dict.fromkeys(operations.ACTIONS, actions.act),
        **dict.fromkeys(operations.LISTS, lists.list_items),
        **dict.fromkeys(operations.LIST_ACTIONS, lists.find_items),
        operations.GET_EVENTS: calls.read_events,
        operations.GET_CALLS: calls.read,
        operations.GET_CALL: calls.read_one,
        operations.GET_ENDED_CALLS: calls.read_ended,
        operations.GET_LOST_CALLERS: calls.read_lost,
    }


def _answer(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    request = request_of(req, with_body=takes_body(operation), base=address(req))
    answer = _work()[operation](bridge(), operation, request)
    if isinstance(answer, dict):
        return as_json(answer)
    if isinstance(answer, Page):
        return as_json(answer.body, answer.status, answer.headers)
    headers = {"Content-Disposition": f'attachment; filename="{answer.name}"', "X-Content-Type-Options": "nosniff"}
    return func.HttpResponse(answer.content, mimetype=answer.content_type, headers=headers)


# The API's key is enough: callers need no role on the storage account.
def _audio(req: func.HttpRequest) -> func.HttpResponse:
    from shared.media.blobs import read_range

    parts = req.route_params
    if "file" in parts:
        name = "/".join(parts[part] for part in ("year", "month", "day", "file"))
    else:
        # A parameter in a definition's path holds no slashes, so makers pass the name in the query.
        check_names(request_of(req).query, ("blobName",))
        name = req.params.get("blobName", "")
    part = read_range(bridge().storage, parts["container"], name, req.headers.get("Range"))
    headers = _AUDIO_HEADERS | dict(part.headers)
    return func.HttpResponse(part.content, status_code=part.status, mimetype=part.content_type, headers=headers)


def _definition(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.definition import served

    here = urlsplit(address(req))
    body, etag = served(here.scheme, here.netloc, here.path)
    headers = {**_OPEN, "ETag": etag}
    if req.headers.get("If-None-Match") == etag:
        return func.HttpResponse(status_code=304, headers=headers)
    return func.HttpResponse(body, headers=headers, mimetype="application/json")


_register = partial(register, blueprint, func.AuthLevel.FUNCTION, render=refusal)
for _row in operations.SERVED:
    _register(_row.id, _row.method, f"v2/{_row.path}", partial(_answer, _row))
_register("GetStoredAudio", "GET", "v2/media/{container}/{year}/{month}/{day}/{file}", _audio)
_register("GetAudio", "GET", "v2/media/{container}", _audio)
register(blueprint, func.AuthLevel.ANONYMOUS, "GetSwagger", "GET", "swagger.json", _definition)
