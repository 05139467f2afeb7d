"""Expected contents of storage: the fields of stored audio, and dead letters."""

from __future__ import annotations

from typing import Any

from shared.storage.account import Storage
from shared.storage.messages import DEAD_LETTERS


def dead_letters(storage: Storage) -> list[dict[str, Any]]:
    """Return all dead letters as rows."""
    return [dict(row) for row in storage.table(DEAD_LETTERS).list_entities()]


def stored_audio(url: str) -> dict[str, Any]:
    """Return the fields that RecordingStored and VoicemailStored have beside the PBX's own."""
    container, _, blob = url.removeprefix("https://").partition("/")[2].partition("/")
    where = {"blobUrl": url, "container": container, "blobName": blob}
    return {
        **where,
        "sha256": "0" * 64,
        "size": 5,
        "contentType": "audio/mpeg",
        "storedAt": "2018-04-25T14:00:00.000000Z",
    }
