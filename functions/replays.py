"""HTTP triggers that give a second chance; the master key alone opens them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from functions.replies import answer, as_json
from shared.bridge import bridge

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Work = Callable[[ModuleType, func.HttpRequest], func.HttpResponse]

blueprint = func.Blueprint()


def _letters(replaying: ModuleType, req: func.HttpRequest) -> func.HttpResponse:
    return as_json(replaying.replay_letters(bridge(), req.get_body()))


def _span(replaying: ModuleType, req: func.HttpRequest) -> func.HttpResponse:
    told = replaying.replay_events(bridge(), req.route_params["subscription"], req.get_body())
    return as_json(told, status=HTTPStatus.ACCEPTED)


ROUTES: tuple[tuple[str, str, Work], ...] = (
    ("ReplayDeadLetters", "ops/deadletters/replay", _letters),
    ("ReplayEvents", "ops/subscriptions/{subscription}/replay", _span),
)


def _register(name: str, route: str, work: Work) -> None:
    @blueprint.function_name(name)
    @blueprint.route(route, methods=["POST"], auth_level=func.AuthLevel.ADMIN)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        # Asked for so rarely that no other function should wait for it at a cold start.
        from shared.pipeline import replay as replaying

        return answer(lambda: work(replaying, req))


for _route in ROUTES:
    _register(*_route)
