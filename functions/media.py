"""HTTP triggers for audio that is in Blob Storage: who has the key of the API needs no role on the account."""

from __future__ import annotations

import azure.functions as func

from functions.responses import answer, refusal
from shared.bridge import bridge
from shared.media.serve import read

blueprint = func.Blueprint()

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _audio(container: str, name: str) -> func.HttpResponse:
    def work() -> func.HttpResponse:
        audio = read(bridge().storage, container, name)
        return func.HttpResponse(audio.content, mimetype=audio.content_type, headers=_HEADERS)

    return answer(work, refusal)


@blueprint.function_name("GetStoredAudio")
@blueprint.route(
    "v2/media/{container}/{year}/{month}/{day}/{file}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION
)
def get_stored_audio(req: func.HttpRequest) -> func.HttpResponse:
    parts = req.route_params
    return _audio(parts["container"], "/".join(parts[part] for part in ("year", "month", "day", "file")))


# A parameter of a definition's path holds no slashes: what makers pick from takes the name as one field.
@blueprint.function_name("GetAudio")
@blueprint.route("v2/media/{container}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def get_audio(req: func.HttpRequest) -> func.HttpResponse:
    return _audio(req.route_params["container"], req.params.get("blobName", ""))
