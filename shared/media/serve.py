"""Audio handed out again: one stored recording or voicemail, by the container and name in its event."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared.errors import AudioTooLarge, NotFound
from shared.media.table import MEDIA
from shared.storage.account import reaching_storage

if TYPE_CHECKING:
    from shared.storage.account import Storage

# An answer is held in memory as a whole; a voicemail has a tenth of it, and no mail takes more.
LARGEST = 32 * 1024 * 1024
NAME_PATTERN = r"[0-9]{4}/[0-9]{2}/[0-9]{2}/[A-Za-z0-9-]{1,200}\.[a-z0-9]{1,8}"


def read(storage: Storage, container: str, name: str) -> tuple[bytes, str]:
    """
    The bytes of one stored file, and their content type.

    Raises NotFound for a container without audio, a name that no audio has, and a blob that is not there;
    AudioTooLarge over LARGEST bytes; StorageUnavailable.
    """
    from azure.core.exceptions import ResourceNotFoundError

    if container not in {row.container for row in MEDIA} or not re.fullmatch(NAME_PATTERN, name):
        raise NotFound("no audio has this name")
    with reaching_storage():
        try:
            blob = storage.container(container).get_blob_client(name)
            properties = blob.get_blob_properties()
            if properties.size > LARGEST:
                raise AudioTooLarge("it is read as a whole")
            content = blob.download_blob().readall()
        except ResourceNotFoundError as error:
            raise NotFound("no such audio") from error
    kind = properties.content_settings.content_type or ""
    # Nothing that a browser would run, whoever put it there.
    return content, kind if kind.startswith(("audio/", "video/")) else "application/octet-stream"
