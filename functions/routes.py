"""How an HTTP trigger is registered, and its errors become answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import azure.functions as func

from functions.responses import answer, problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.responses import Render


def serve(  # noqa: PLR0917 - a row of a table of routes
    blueprint: func.Blueprint,
    level: func.AuthLevel,
    name: str,
    method: str,
    route: str,
    work: Callable[[func.HttpRequest], func.HttpResponse],
    *,
    render: Render = problem,
) -> None:
    """Have `work` answer a method and route under /api; `render` is how its errors look."""

    @blueprint.function_name(name)
    @blueprint.route(route, methods=[method], auth_level=level)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        return answer(partial(work, req), render)
