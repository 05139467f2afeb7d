"""Media in Blob Storage: staged in blocks, and visible under its name only when it is all there."""

from __future__ import annotations

import base64
import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.errors import MediaNotReady
from shared.media.audio import HEAD_BYTES, kind_of
from shared.media.description import INCOMPLETE
from shared.media.extent import Follower, is_whole
from shared.storage.account import BLOCK_BYTES
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from azure.storage.blob import BlobClient, BlobProperties, ContainerClient

    from shared.media.audio import Audio
    from shared.media.description import Description
    from shared.media.download import Download
    from shared.storage.account import Storage

# A file is far shorter than its call where more than half of it, and more than so many seconds, are missing.
_MISSING_SECONDS = 5


class OtherBytes(Exception):
    """Other bytes stand under the name already; `sha256` is that of the file that came now."""

    def __init__(self, sha256: str) -> None:
        super().__init__("other bytes of the same id")
        self.sha256 = sha256


def store(
    storage: Storage,
    description: Description,
    file: Download,
    *,
    final: bool = False,
    before: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """
    Keep a file under its name; returns where it is and what it is.

    `before` is given the name before the blob is there. The same bytes again write nothing; raises OtherBytes when
    others stand there. Raises MediaNotReady when the file is empty, no audio, cut short, or holds less than its
    container declares; then nothing of it is visible. A `final` look keeps such a container as it is. What is kept so,
    or plays far shorter than its call, is marked `incomplete`, and more bytes that come later take its place.
    """
    return _store(storage, description, file, "", final, before)


def store_beside(storage: Storage, description: Description, file: Download, sha256: str) -> dict[str, Any]:
    """Keep other bytes of the same id under a name of their own, beside the first; raises as `store` does."""
    return _store(storage, description, file, f".{sha256[:12]}", True, None)


@dataclass(slots=True)
class _Read:
    """A file as it is read: its first block, its digest, and what its container says of it."""

    first: bytes | None
    digest: Any
    follower: Follower
    ids: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, first: bytes, audio: Audio) -> _Read:
        read = cls(first, hashlib.sha256(), Follower(audio.content_type))
        read.add(first)
        return read

    def add(self, block: bytes) -> None:
        self.digest.update(block)
        self.follower.add(block)

    @property
    def sha256(self) -> str:
        return str(self.digest.hexdigest())


def _store(  # noqa: PLR0917 - what both ways of storing differ in
    storage: Storage,
    description: Description,
    file: Download,
    mark: str,
    final: bool,
    before: Callable[[str], None] | None,
) -> dict[str, Any]:
    first = file.read(BLOCK_BYTES)
    if not first:
        raise MediaNotReady("empty")
    audio = kind_of(first[:HEAD_BYTES], file.content_type)
    container = storage.container(description.container)
    blob = container.get_blob_client(description.name(audio, mark))
    if before:
        before(blob.blob_name)
    read = _Read.begin(first, audio)
    # All that is kept of this id, as any kind of audio.
    kept = list(container.list_blobs(name_starts_with=description.stem + ".", include=["metadata"]))
    replaced = next((one for one in kept if one.name == blob.blob_name and INCOMPLETE in (one.metadata or {})), None)
    if kept and not mark and replaced is None:
        # What is there already is compared, not staged.
        while len(first) == BLOCK_BYTES and (block := file.read(BLOCK_BYTES)):
            read.add(block)
        return _among(container, kept, read.sha256)
    if len(first) == BLOCK_BYTES:
        # Handed over, not lent: kept here, it would stay in memory until the end.
        del first
        _stage(blob, read, file)
    incomplete = _lacking(description, read, file.size, final)
    if replaced is not None and (replaced.size or 0) >= file.size:
        return _stored(blob, replaced)
    return _write(
        blob, read, audio, description.metadata(read.sha256, file.size, incomplete), description.tags(), replaced
    )


def _lacking(description: Description, read: _Read, size: int, final: bool) -> str:
    """What a file lacks, in a word for its metadata; raises MediaNotReady where it may still come."""
    found = read.follower.extent()
    if not is_whole(found, size):
        if not final:
            raise MediaNotReady("no audio in it yet" if size <= found.start else "less than its container declares")
        return "container"
    wanted, there = description.seconds or 0, found.seconds
    if there is not None and there < wanted / 2 and wanted - there > _MISSING_SECONDS:
        return "short"
    return ""


def _among(container: ContainerClient, kept: Iterable[BlobProperties], sha256: str) -> dict[str, Any]:
    """The one of these bytes; raises OtherBytes where none of them is."""
    for properties in kept:
        if (properties.metadata or {}).get("sha256") == sha256:
            return _stored(container.get_blob_client(properties.name), properties)
    raise OtherBytes(sha256)


def _write(  # noqa: PLR0917 - all that goes into one request
    blob: BlobClient,
    read: _Read,
    audio: Audio,
    metadata: dict[str, str],
    tags: dict[str, str],
    replaced: BlobProperties | None,
) -> dict[str, Any]:
    """Put or commit it all at once, unless something else is there by now."""
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
    from azure.storage.blob import BlobBlock, ContentSettings

    settings = ContentSettings(content_type=audio.content_type)
    options: dict[str, Any] = {"metadata": metadata, "tags": tags, "content_settings": settings}
    if replaced is None:
        options["match_condition"] = MatchConditions.IfMissing
    else:
        options |= {"etag": replaced.etag, "match_condition": MatchConditions.IfNotModified}
    try:
        if read.first is not None:
            written = blob.upload_blob(read.first, overwrite=True, **options)
        else:
            written = blob.commit_block_list([BlobBlock(block_id=id) for id in read.ids], **options)
    except (ResourceExistsError, ResourceModifiedError):
        # Somebody else's copy came first, or a policy lets nothing take its place.
        there = blob.get_blob_properties()
        if there.metadata.get("sha256") != read.sha256:
            raise OtherBytes(read.sha256) from None
        return _stored(blob, there)
    return _place(blob, metadata, audio.content_type, written["last_modified"])


def _stage(blob: BlobClient, read: _Read, file: Download) -> None:
    """Stage the first block, which is taken out of `read`, and all others, each while the next one is read."""
    # Block ids are our own, whoever else is copying.
    nonce = uuid.uuid4().hex[:8]
    block, read.first = read.first or b"", None
    with ThreadPoolExecutor(1) as pool:
        while block:
            read.ids.append(base64.b64encode(f"{nonce}-{len(read.ids):06d}".encode()).decode())
            staging = pool.submit(blob.stage_block, read.ids[-1], block, length=len(block))
            block = file.read(BLOCK_BYTES)
            if block:
                read.add(block)
            staging.result()


def _stored(blob: BlobClient, properties: BlobProperties) -> dict[str, Any]:
    kind = properties.content_settings.content_type or ""
    return _place(blob, properties.metadata or {}, kind, properties.creation_time)


def _place(blob: BlobClient, metadata: Mapping[str, str], content_type: str, at: datetime) -> dict[str, Any]:
    place: dict[str, Any] = {
        "blobUrl": blob.url,
        "container": blob.container_name,
        "blobName": blob.blob_name,
        "sha256": metadata["sha256"],
        "size": int(metadata["size"]),
        "contentType": content_type,
        "storedAt": iso(at),
    }
    return place | ({INCOMPLETE: True} if metadata.get(INCOMPLETE) else {})
