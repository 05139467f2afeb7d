"""The HTTP trigger that tells whoever watches the app if it works, and nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import azure.functions as func

from shared.bridge import bridge
from shared.errors import BridgeError

blueprint = func.Blueprint()

_SECONDS = 1.8
# Requests to a storage that hangs hold these threads until its own timeout, and no other request.
_pool = ThreadPoolExecutor(4, thread_name_prefix="health")


def _works() -> bool:
    from shared.health import is_reachable

    try:
        return is_reachable(bridge().storage)
    except BridgeError:
        return False


@blueprint.function_name("GetHealth")
@blueprint.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def get_health(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 200 or 503 within two seconds, without a body."""
    try:
        works = _pool.submit(_works).result(timeout=_SECONDS)
    except TimeoutError:
        works = False
    status = HTTPStatus.OK if works else HTTPStatus.SERVICE_UNAVAILABLE
    return func.HttpResponse(status_code=status, headers={"Cache-Control": "no-store"})
