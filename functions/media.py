"""HTTP triggers for audio that is in Blob Storage: who has the key of the API needs no role on the account."""

from __future__ import annotations

import azure.functions as func

from functions.responses import refusal
from functions.routes import serve
from shared.bridge import bridge
from shared.media.serve import read

blueprint = func.Blueprint()

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _audio(container: str, name: str) -> func.HttpResponse:
    content, content_type = read(bridge().storage, container, name)
    return func.HttpResponse(content, mimetype=content_type, headers=_HEADERS)


def _by_path(req: func.HttpRequest) -> func.HttpResponse:
    parts = req.route_params
    return _audio(parts["container"], "/".join(parts[part] for part in ("year", "month", "day", "file")))


# A parameter of a definition's path holds no slashes: what makers pick from takes the name as one field.
def _by_name(req: func.HttpRequest) -> func.HttpResponse:
    return _audio(req.route_params["container"], req.params.get("blobName", ""))


for _name, _route, _work in (
    ("GetStoredAudio", "v2/media/{container}/{year}/{month}/{day}/{file}", _by_path),
    ("GetAudio", "v2/media/{container}", _by_name),
):
    serve(blueprint, func.AuthLevel.FUNCTION, _name, "GET", _route, _work, render=refusal)
