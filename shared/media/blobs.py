"""Media in Blob Storage: staged in blocks, and visible under its name only when it is whole."""

from __future__ import annotations

import base64
import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import MediaNotReady
from shared.media.audio import HEAD_BYTES, Audio, sniff
from shared.storage.account import BLOCK_BYTES
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from azure.storage.blob import BlobClient, BlobProperties, ContainerClient

    from shared.media.download import Download
    from shared.storage.account import Storage


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What is known of a file besides its bytes; `started` is the call's start in UTC."""

    kind: str
    container: str
    id: int
    call_id: int | None
    contact_id: int | None
    direction: str | None
    started: datetime
    attempts: int
    event: str

    @property
    def stem(self) -> str:
        """What the names of all its blobs begin with: the call's UTC date, then the PBX's id."""
        return f"{self.started:%Y/%m/%d}/{self.id}"

    def name(self, audio: Audio, mark: str = "") -> str:
        """The blob's name: its stem, and what kind of audio it is."""
        return f"{self.stem}{mark}.{audio.extension}"

    def metadata(self, sha256: str, size: int) -> dict[str, str]:
        """What stands in the blob's metadata: never a phone number."""
        known: dict[str, Any] = {
            "sha256": sha256,
            "size": size,
            "sourceId": self.id,
            "callID": self.call_id,
            "contactID": self.contact_id,
            "direction": self.direction,
            "callStarted": iso(self.started),
            "attempts": self.attempts,
            "event": self.event,
        }
        return {name: str(value) for name, value in known.items() if value not in (None, "")}

    def tags(self) -> dict[str, str]:
        """What blobs can be searched by."""
        known: dict[str, Any] = {
            "kind": self.kind,
            "sourceId": self.id,
            "callID": self.call_id,
            "contactID": self.contact_id,
            "direction": self.direction,
            "date": f"{self.started:%Y-%m-%d}",
        }
        return {name: str(value) for name, value in known.items() if value not in (None, "")}


class OtherBytes(Exception):
    """Other bytes stand under the name already; `sha256` is that of the file that came now."""

    def __init__(self, sha256: str) -> None:
        super().__init__("other bytes of the same id")
        self.sha256 = sha256


def store(
    storage: Storage, description: Description, file: Download, *, before: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """
    Keep a file under its name; returns where it is and what it is.

    `before` is told the name before the blob is there. The same bytes again write nothing; raises OtherBytes when
    others stand there. Raises MediaNotReady when the file is empty, no audio or cut short; then nothing of it is
    visible.
    """
    return _store(storage, description, file, "", before)


def store_beside(storage: Storage, description: Description, file: Download, sha256: str) -> dict[str, Any]:
    """Keep other bytes of the same id under a name of their own, beside the first; raises as `store` does."""
    return _store(storage, description, file, f".{sha256[:12]}", None)


def _store(
    storage: Storage, description: Description, file: Download, mark: str, before: Callable[[str], None] | None
) -> dict[str, Any]:
    first = file.read(BLOCK_BYTES)
    audio = sniff(first[:HEAD_BYTES])
    if audio is None:
        raise MediaNotReady("no audio" if first else "empty")
    container = storage.container(description.container)
    blob = container.get_blob_client(description.name(audio, mark))
    if before:
        before(blob.blob_name)
    digest, long = hashlib.sha256(first), len(first) == BLOCK_BYTES
    # All that is kept of this id, as whatever kind of audio.
    kept = list(container.list_blobs(name_starts_with=description.stem + ".", include=["metadata"]))
    if kept and not mark:
        # What is there already is compared, not staged.
        while long and (block := file.read(BLOCK_BYTES)):
            digest.update(block)
        return _among(container, kept, digest.hexdigest())
    content: bytes | list[Any] = first
    if long:
        # Handed over, not lent: kept here, it would stay in memory until the end.
        head = [first]
        del first, content
        content = _stage(blob, head, file, digest)
    return _write(blob, content, audio, description.metadata(digest.hexdigest(), file.size), description.tags())


def _among(container: ContainerClient, kept: Iterable[BlobProperties], sha256: str) -> dict[str, Any]:
    """The one of these bytes; raises OtherBytes where none of them is."""
    for properties in kept:
        if (properties.metadata or {}).get("sha256") == sha256:
            return _compared(container.get_blob_client(properties.name), properties, sha256)
    raise OtherBytes(sha256)


def _write(
    blob: BlobClient, content: bytes | list[Any], audio: Audio, metadata: dict[str, str], tags: dict[str, str]
) -> dict[str, Any]:
    """Put or commit it all at once, unless something is there already."""
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import ContentSettings

    settings = ContentSettings(content_type=audio.content_type)
    options: dict[str, Any] = {"metadata": metadata, "tags": tags, "content_settings": settings}
    try:
        if isinstance(content, bytes):
            written = blob.upload_blob(content, overwrite=False, **options)
        else:
            written = blob.commit_block_list(content, match_condition=MatchConditions.IfMissing, **options)
    except ResourceExistsError:
        return _compared(blob, blob.get_blob_properties(), metadata["sha256"])
    return _stored(blob, metadata["sha256"], int(metadata["size"]), audio.content_type, written["last_modified"])


def _stage(blob: BlobClient, head: list[bytes], file: Download, digest: Any) -> list[Any]:
    """Stage the block in `head`, which is taken out of it, and all others, each while the next one is read."""
    from azure.storage.blob import BlobBlock

    # Block ids are our own, whoever else is copying.
    nonce = uuid.uuid4().hex[:8]
    ids: list[str] = []
    block = head.pop()
    with ThreadPoolExecutor(1) as pool:
        while block:
            ids.append(base64.b64encode(f"{nonce}-{len(ids):06d}".encode()).decode())
            staging = pool.submit(blob.stage_block, ids[-1], block, length=len(block))
            block = file.read(BLOCK_BYTES)
            digest.update(block)
            staging.result()
    return [BlobBlock(block_id=id) for id in ids]


def _compared(blob: BlobClient, properties: BlobProperties, sha256: str) -> dict[str, Any]:
    if properties.metadata.get("sha256") != sha256:
        raise OtherBytes(sha256)
    kind, at = properties.content_settings.content_type, properties.creation_time
    return _stored(blob, sha256, properties.size, kind or "", at)


def _stored(blob: BlobClient, sha256: str, size: int, content_type: str, at: datetime) -> dict[str, Any]:
    return {
        "blobUrl": blob.url,
        "container": blob.container_name,
        "blobName": blob.blob_name,
        "sha256": sha256,
        "size": size,
        "contentType": content_type,
        "storedAt": iso(at),
    }
