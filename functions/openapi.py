"""The HTTP trigger that serves the app's definition to whoever builds a connector from it."""

from __future__ import annotations

import azure.functions as func

from functions.requests import origin

blueprint = func.Blueprint()

# Logic Apps' designer fetches it from the maker's browser.
_OPEN = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300", "Vary": "Host"}


@blueprint.function_name("GetSwagger")
@blueprint.route("swagger.json", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def get_swagger(req: func.HttpRequest) -> func.HttpResponse:
    from shared.api.openapi.definition import served

    body, etag = served(*origin(req))
    headers = {**_OPEN, "ETag": etag}
    if req.headers.get("If-None-Match") == etag:
        return func.HttpResponse(status_code=304, headers=headers)
    return func.HttpResponse(body, headers=headers, mimetype="application/json")
