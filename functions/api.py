"""HTTP triggers under /api/v2 that ask for something: actions, lists and the feed, one a row of operations; audio."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import azure.functions as func

from functions.requests import address, given
from functions.responses import as_json, refusal, serve
from shared.api import calls, feed, lost_callers, sheets
from shared.api.actions import ACTIONS, act
from shared.api.lists import LIST_ACTIONS, LISTS, find_items, list_items
from shared.api.parameters import check_names, takes_body
from shared.bridge import bridge
from shared.media.serve import read_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.pbx.operations import Operation

    Work = Callable[[Operation, func.HttpRequest], func.HttpResponse]

blueprint = func.Blueprint()

_OF_AUDIO = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _act(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(act(bridge(), operation, given(req, with_body=takes_body(operation)), req.headers))


def _list(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    page = list_items(bridge(), operation, given(req, with_body=False), address(req))
    return as_json(page.body, page.status, page.headers)


def _find(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    return _list_or_file(find_items(bridge(), operation, given(req, with_body=False)))


def _feed(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(feed.read(bridge(), given(req, with_body=False)))


def _calls(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    return _list_or_file(calls.read(bridge(), given(req, with_body=False)))


def _lost_callers(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    return _list_or_file(lost_callers.read(bridge(), given(req, with_body=False)))


def _list_or_file(found: dict[str, Any] | sheets.File) -> func.HttpResponse:
    if isinstance(found, dict):
        return as_json(found)
    headers = {"Content-Disposition": f'attachment; filename="{found.name}"', "X-Content-Type-Options": "nosniff"}
    return func.HttpResponse(found.content, mimetype=found.content_type, headers=headers)


def _ended(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    page = calls.ended(bridge(), given(req, with_body=False), address(req))
    return as_json(page.body, page.status, page.headers)


def _call(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(calls.read_one(bridge(), given(req, with_body=False)))


# Who has the key of the API needs no role on the account.
def _audio(req: func.HttpRequest, name: str) -> func.HttpResponse:
    part = read_range(bridge().storage, req.route_params["container"], name, req.headers.get("Range"))
    headers = _OF_AUDIO | dict(part.headers)
    return func.HttpResponse(part.content, status_code=part.status, mimetype=part.content_type, headers=headers)


def _audio_by_path(req: func.HttpRequest) -> func.HttpResponse:
    parts = req.route_params
    return _audio(req, "/".join(parts[part] for part in ("year", "month", "day", "file")))


# A parameter of a definition's path holds no slashes: what makers pick from takes the name as one field.
def _audio_by_name(req: func.HttpRequest) -> func.HttpResponse:
    check_names(given(req, with_body=False).query, ("blobName",))
    return _audio(req, req.params.get("blobName", ""))


_serve = partial(serve, blueprint, func.AuthLevel.FUNCTION, render=refusal)
_OWN: tuple[tuple[tuple[Operation, ...], Work], ...] = (
    ((feed.OPERATION,), _feed),
    ((calls.GET_CALLS,), _calls),
    ((calls.GET_CALL,), _call),
    ((calls.ENDED,), _ended),
    ((lost_callers.GET_LOST_CALLERS,), _lost_callers),
)
for _rows, _work in ((ACTIONS, _act), (LISTS, _list), (LIST_ACTIONS, _find), *_OWN):
    for _row in _rows:
        _serve(_row.id, _row.method, f"v2/{_row.path}", partial(_work, _row))
_serve("GetStoredAudio", "GET", "v2/media/{container}/{year}/{month}/{day}/{file}", _audio_by_path)
_serve("GetAudio", "GET", "v2/media/{container}", _audio_by_name)
