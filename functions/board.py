"""HTTP trigger of the page: hands every request below /api/board to the Flask app in `board/`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import azure.functions as func

from functions.requests import body_of, origin
from functions.responses import answer
from shared.bridge import bridge
from shared.storage.account import once

if TYPE_CHECKING:
    from flask import Flask

blueprint = func.Blueprint()

_MOUNT = "/api/board"
_OWN = ("host", "content-length")
# The host matches its prefix and routes in any letter case.
_PREFIX = re.compile(f"^{_MOUNT}/*", re.IGNORECASE)


def serve_page(app: Flask, req: func.HttpRequest) -> func.HttpResponse:
    """Return the Flask app's response to a request of the host."""
    from werkzeug.test import EnvironBuilder, run_wsgi_app

    scheme, host = origin(req)
    parts = urlsplit(req.url)
    kept = ((name, value) for name, value in req.headers.items() if name.lower() not in _OWN)
    builder = EnvironBuilder(
        path="/" + _PREFIX.sub("", parts.path),
        base_url=f"{scheme}://{host}{_MOUNT}",
        query_string=parts.query,
        method=req.method,
        headers=list(kept),
        data=body_of(req),
    )
    body, status, headers = run_wsgi_app(app, builder.get_environ(), buffered=True)
    builder.close()
    # A list of pairs, as Set-Cookie may be repeated.
    return func.HttpResponse(b"".join(body), status_code=int(status.split()[0]), headers=headers)  # type: ignore[arg-type]


@once
def _page() -> Flask:
    # Imported on the first request, so that no other function's cold start loads Flask.
    from board.app import create_app

    return create_app(bridge())


@blueprint.function_name("Board")
@blueprint.route("board/{*path}", methods=["GET", "HEAD", "POST"], auth_level=func.AuthLevel.ANONYMOUS)
def board(req: func.HttpRequest) -> func.HttpResponse:
    """Answer a request of the page."""
    return answer(lambda: serve_page(_page(), req))
