"""HTTP triggers of the API: one a row of its operations, stored audio, and the definition."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import azure.functions as func

from functions.requests import address, request_of
from functions.responses import as_json, refusal, register
from shared.api import operations
from shared.api.envelopes import Page
from shared.api.parameters import check_names, takes_body
from shared.bridge import bridge

if TYPE_CHECKING:
    from shared.pbx.operations import Operation

blueprint = func.Blueprint()

_AUDIO_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# Logic Apps' designer fetches it from the maker's browser.
_OPEN = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300", "Vary": "Host"}


# Each imports what it starts: none of it is on the way of a receiver's cold start.
def _answer(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.answers import answer

    found = answer(bridge(), operation, request_of(req, with_body=takes_body(operation), base=address(req)))
    if isinstance(found, dict):
        return as_json(found)
    if isinstance(found, Page):
        return as_json(found.body, found.status, found.headers)
    headers = {"Content-Disposition": f'attachment; filename="{found.name}"', "X-Content-Type-Options": "nosniff"}
    return func.HttpResponse(found.content, mimetype=found.content_type, headers=headers)


# Who has the key of the API needs no role on the account.
def _audio(req: func.HttpRequest, *, by_path: bool) -> func.HttpResponse:
    from shared.media.serve import read_range

    if not by_path:
        check_names(request_of(req).query, ("blobName",))
    parts = req.route_params
    # A parameter of a definition's path holds no slashes: what makers pick from takes the name as one field.
    names = [parts[part] for part in ("year", "month", "day", "file")] if by_path else [req.params.get("blobName", "")]
    part = read_range(bridge().storage, parts["container"], "/".join(names), req.headers.get("Range"))
    headers = _AUDIO_HEADERS | dict(part.headers)
    return func.HttpResponse(part.content, status_code=part.status, mimetype=part.content_type, headers=headers)


def _definition(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.openapi.definition import served

    scheme, _, rest = address(req).partition("://")
    host, slash, path = rest.partition("/")
    body, etag = served(scheme, host, slash + path)
    headers = {**_OPEN, "ETag": etag}
    if req.headers.get("If-None-Match") == etag:
        return func.HttpResponse(status_code=304, headers=headers)
    return func.HttpResponse(body, headers=headers, mimetype="application/json")


_register = partial(register, blueprint, func.AuthLevel.FUNCTION, render=refusal)
for _row in operations.SERVED:
    _register(_row.id, _row.method, f"v2/{_row.path}", partial(_answer, _row))
_register("GetStoredAudio", "GET", "v2/media/{container}/{year}/{month}/{day}/{file}", partial(_audio, by_path=True))
_register("GetAudio", "GET", "v2/media/{container}", partial(_audio, by_path=False))
register(blueprint, func.AuthLevel.ANONYMOUS, "GetSwagger", "GET", "swagger.json", _definition)
