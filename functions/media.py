"""The HTTP trigger for audio that is in Blob Storage: who has the key of the API needs no role on the account."""

from __future__ import annotations

import azure.functions as func

from functions.responses import answer, refusal
from shared.bridge import bridge
from shared.media.serve import read

blueprint = func.Blueprint()

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@blueprint.function_name("GetStoredAudio")
@blueprint.route(
    "v2/media/{container}/{year}/{month}/{day}/{file}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION
)
def get_stored_audio(req: func.HttpRequest) -> func.HttpResponse:
    def work() -> func.HttpResponse:
        parts = req.route_params
        name = "/".join(parts[part] for part in ("year", "month", "day", "file"))
        audio = read(bridge().storage, parts["container"], name)
        return func.HttpResponse(audio.content, mimetype=audio.content_type, headers=_HEADERS)

    return answer(work, refusal)
