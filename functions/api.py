"""HTTP triggers under /api/v2 that ask for something: the actions, the lists and the feed, one a row of operations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import azure.functions as func

from functions.requests import given, origin
from functions.responses import as_json, refusal
from functions.routes import serve
from shared.api import feed
from shared.api.actions import ACTIONS, act
from shared.api.list_actions import LIST_ACTIONS, find_items
from shared.api.lists import LISTS, list_items
from shared.api.parameters import takes_body
from shared.bridge import bridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.pbx.operations import Operation

    Work = Callable[[Operation, func.HttpRequest], func.HttpResponse]

blueprint = func.Blueprint()


def _act(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(act(bridge(), operation, given(req, with_body=takes_body(operation)), req.headers))


def _list(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    page = list_items(bridge(), operation, given(req, with_body=False), "://".join(origin(req)))
    return as_json(page.body, page.status, page.headers)


def _find(operation: Operation, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(find_items(bridge(), operation, given(req, with_body=False)))


def _feed(_: Operation, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(feed.read(bridge(), given(req, with_body=False)))


_serve = partial(serve, blueprint, func.AuthLevel.FUNCTION, render=refusal)
for _rows, _work in ((ACTIONS, _act), (LISTS, _list), (LIST_ACTIONS, _find), ((feed.OPERATION,), _feed)):
    for _row in _rows:
        _serve(_row.id, _row.method, f"v2/{_row.path}", partial(_work, _row))
