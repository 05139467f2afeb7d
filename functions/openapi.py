"""The HTTP trigger that serves the app's definition, which connectors are built from."""

from __future__ import annotations

import azure.functions as func

from functions.requests import address
from functions.responses import register

blueprint = func.Blueprint()

# Logic Apps' designer fetches it from the maker's browser.
_OPEN = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300", "Vary": "Host"}


def _definition(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.openapi.definition import served

    scheme, _, rest = address(req).partition("://")
    host, slash, path = rest.partition("/")
    body, etag = served(scheme, host, slash + path)
    headers = {**_OPEN, "ETag": etag}
    if req.headers.get("If-None-Match") == etag:
        return func.HttpResponse(status_code=304, headers=headers)
    return func.HttpResponse(body, headers=headers, mimetype="application/json")


register(blueprint, func.AuthLevel.ANONYMOUS, "GetSwagger", "GET", "swagger.json", _definition)
