"""What the app says of audio that it stored."""

from __future__ import annotations

from typing import Any


def stored_audio(url: str) -> dict[str, Any]:
    """The fields that RecordingStored and VoicemailStored have beside the PBX's own."""
    container, _, blob = url.removeprefix("https://").partition("/")[2].partition("/")
    where = {"blobUrl": url, "container": container, "blobName": blob}
    return {
        **where,
        "sha256": "0" * 64,
        "size": 5,
        "contentType": "audio/mpeg",
        "storedAt": "2018-04-25T14:00:00.000000Z",
    }
