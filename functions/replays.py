"""HTTP triggers that give a second chance; the master key alone opens them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from functions.replies import answer, as_json
from shared.bodies import read_body
from shared.bridge import bridge
from shared.replaying import Choice, Span, replay_letters, replay_span

if TYPE_CHECKING:
    from collections.abc import Callable

blueprint = func.Blueprint()


def _letters(req: func.HttpRequest) -> func.HttpResponse:
    return as_json(replay_letters(bridge(), read_body(Choice, req.get_body() or b"{}")))


def _span(req: func.HttpRequest) -> func.HttpResponse:
    told = replay_span(bridge(), req.route_params["subscription"], read_body(Span, req.get_body() or b"{}"))
    return as_json(told, status=HTTPStatus.ACCEPTED)


ROUTES: tuple[tuple[str, str, Callable[[func.HttpRequest], func.HttpResponse]], ...] = (
    ("ReplayDeadLetters", "ops/deadletters/replay", _letters),
    ("ReplayEvents", "ops/subscriptions/{subscription}/replay", _span),
)


def _register(name: str, route: str, work: Callable[[func.HttpRequest], func.HttpResponse]) -> None:
    @blueprint.function_name(name)
    @blueprint.route(route, methods=["POST"], auth_level=func.AuthLevel.ADMIN)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        return answer(lambda: work(req))


for _route in ROUTES:
    _register(*_route)
