"""HTTP trigger that shows if the app works, without detail."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import azure.functions as func

from shared.bridge import bridge
from shared.errors import BridgeError

blueprint = func.Blueprint()

_SECONDS = 1.8
# When storage hangs, checks block these threads alone until their own timeout.
_pool = ThreadPoolExecutor(4, thread_name_prefix="health")


def _check() -> None:
    from shared.health import check

    check(bridge().storage)


@blueprint.function_name("GetHealth")
@blueprint.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def get_health(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 200 or 503 within two seconds, without a body."""
    status = HTTPStatus.OK
    try:
        _pool.submit(_check).result(timeout=_SECONDS)
    except (TimeoutError, BridgeError):
        status = HTTPStatus.SERVICE_UNAVAILABLE
    return func.HttpResponse(status_code=status, headers={"Cache-Control": "no-store"})
