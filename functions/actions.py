"""HTTP triggers for the actions of the Logic Apps face, one a row of the operations table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

from functions.replies import answer, as_json, refusal
from functions.requests import given
from shared.api.actions import ACTIONS, act
from shared.bridge import bridge

if TYPE_CHECKING:
    from shared.pbx.operations import Operation

blueprint = func.Blueprint()


def _register(operation: Operation) -> None:
    @blueprint.function_name(operation.id)
    @blueprint.route(f"v2/{operation.path}", methods=[operation.method], auth_level=func.AuthLevel.FUNCTION)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        return answer(lambda: as_json(act(bridge(), operation, given(req), req.headers)), refusal)


for _action in ACTIONS:
    _register(_action)
