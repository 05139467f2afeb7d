"""HTTP triggers for the lists of the Logic Apps face, one a row of the operations table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

from functions.replies import answer, as_json, refusal
from functions.requests import given, origin
from shared.api.lists import LISTS, list_items
from shared.bridge import bridge

if TYPE_CHECKING:
    from shared.pbx.operations import Operation

blueprint = func.Blueprint()


def _register(operation: Operation) -> None:
    @blueprint.function_name(operation.id)
    @blueprint.route(f"v2/{operation.path}", methods=[operation.method], auth_level=func.AuthLevel.FUNCTION)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        def work() -> func.HttpResponse:
            page = list_items(bridge(), operation, given(req), "://".join(origin(req)))
            return as_json(page.body, page.status, page.headers)

        return answer(work, refusal)


for _list in LISTS:
    _register(_list)
