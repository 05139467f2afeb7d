"""HTTP triggers under /api/v2 that ask for something: actions, lists and the feed, one a row of operations; audio."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import azure.functions as func

from functions.requests import address, request_of
from functions.responses import as_json, refusal, register
from shared.api import operations
from shared.api.parameters import check_names, takes_body
from shared.bridge import bridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.api.lists import Page
    from shared.api.sheets import File
    from shared.pbx.operations import Operation

    Work = Callable[[Operation, func.HttpRequest], func.HttpResponse]

blueprint = func.Blueprint()

_AUDIO_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


# Each imports what it starts: none of it is on the way of a receiver's cold start.
def _act(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.actions import act

    request = request_of(req, with_body=takes_body(operation))
    return as_json(act(bridge(), operation, request, req.headers))


def _list(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.lists import list_items

    return _page(list_items(bridge(), operation, request_of(req), address(req)))


def _find(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.lists import find_items

    return _list_or_file(find_items(bridge(), operation, request_of(req)))


def _events(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    from shared.api import feed

    return as_json(feed.read(bridge(), request_of(req)))


def _calls(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    from shared.api import calls

    return _list_or_file(calls.read(bridge(), request_of(req)))


def _call(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    from shared.api import calls

    return as_json(calls.read_one(bridge(), request_of(req)))


def _ended_calls(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    from shared.api import calls

    return _page(calls.ended(bridge(), request_of(req), address(req)))


def _lost_callers(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    from shared.api import lost_callers

    return _list_or_file(lost_callers.read(bridge(), request_of(req)))


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


def _page(page: Page) -> func.HttpResponse:
    return as_json(page.body, page.status, page.headers)


def _list_or_file(found: dict[str, Any] | File) -> func.HttpResponse:
    if isinstance(found, dict):
        return as_json(found)
    headers = {"Content-Disposition": f'attachment; filename="{found.name}"', "X-Content-Type-Options": "nosniff"}
    return func.HttpResponse(found.content, mimetype=found.content_type, headers=headers)


_register = partial(register, blueprint, func.AuthLevel.FUNCTION, render=refusal)
_TABLE: tuple[tuple[tuple[Operation, ...], Work], ...] = (
    (operations.ACTIONS, _act),
    (operations.LISTS, _list),
    (operations.LIST_ACTIONS, _find),
    ((operations.GET_EVENTS,), _events),
    ((operations.GET_CALLS,), _calls),
    ((operations.GET_CALL,), _call),
    ((operations.GET_ENDED_CALLS,), _ended_calls),
    ((operations.GET_LOST_CALLERS,), _lost_callers),
)
for _rows, _work in _TABLE:
    for _row in _rows:
        _register(_row.id, _row.method, f"v2/{_row.path}", partial(_work, _row))
_register("GetStoredAudio", "GET", "v2/media/{container}/{year}/{month}/{day}/{file}", partial(_audio, by_path=True))
_register("GetAudio", "GET", "v2/media/{container}", partial(_audio, by_path=False))
