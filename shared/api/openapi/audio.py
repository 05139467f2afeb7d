"""Stored audio as OpenAPI 2.0: the one operation whose answer is a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api.openapi.paths import described, parameter, put
from shared.media.serve import NAME_PATTERN
from shared.media.table import MEDIA
from shared.pbx.operations import Operation, Parameter

if TYPE_CHECKING:
    from shared.api.openapi.names import Schema

_CONTAINER = Parameter(
    name="container",
    title="Container",
    description="What the event of the stored audio names so.",
    where="path",
    type="string",
    required=True,
    choices=tuple(media.container for media in MEDIA),
)
_NAME: Schema = {
    "name": "blobName",
    "in": "query",
    "required": True,
    "type": "string",
    "pattern": f"^{NAME_PATTERN}$",
    "x-ms-summary": "Blob Name",
    "description": "What the event of the stored audio names so.",
}
OPERATION = Operation(
    id="GetAudio",
    path="media/{container}",
    parameters=(_CONTAINER,),
    summary="Get stored audio",
    description="Brings the audio of a recording or voicemail that is in Blob Storage, up to 32 MiB.",
)
_TYPES = ("audio/mpeg", "audio/wav", "application/octet-stream", "application/json")
# Connectors take the format, with which a string is bytes.
_FILE: Schema = {"type": "string", "format": "binary", "x-ms-summary": "Audio", "description": "The file."}


def add(paths: dict[str, Any]) -> None:
    """Add it to the paths."""
    made = {"200": {"description": "OK", "schema": _FILE}}
    row = described(OPERATION, "audio", (parameter(_CONTAINER), _NAME), made, "Audio")
    put(paths, OPERATION.path, "get", row | {"produces": list(_TYPES)})
