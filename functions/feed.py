"""The HTTP trigger for those who would rather read events than be called."""

from __future__ import annotations

import azure.functions as func

from functions.replies import answer, as_json, refusal
from functions.requests import given
from shared.api.feed import OPERATION, read
from shared.bridge import bridge

blueprint = func.Blueprint()


@blueprint.function_name(OPERATION.id)
@blueprint.route(f"v2/{OPERATION.path}", methods=[OPERATION.method], auth_level=func.AuthLevel.FUNCTION)
def get_events(req: func.HttpRequest) -> func.HttpResponse:
    return answer(lambda: as_json(read(bridge(), given(req))), refusal)
