"""Media in Blob Storage: staged in blocks, and visible under its name only when it is all there."""

from __future__ import annotations

import base64
import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import MediaNotReady
from shared.media import deletions
from shared.media.audio import HEAD_BYTES, kind_of
from shared.media.extent import Follower, is_whole
from shared.storage.account import BLOCK_BYTES
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from azure.storage.blob import BlobClient, BlobProperties, ContainerClient

    from shared.media.audio import Audio
    from shared.media.download import Download
    from shared.media.table import Media
    from shared.storage.account import Storage

# In a blob's metadata: what its file lacks.
INCOMPLETE = "incomplete"
# A file is far shorter than its call where more than half of it, and more than so many seconds, are missing.
_MISSING_SECONDS = 5


class OtherBytes(Exception):
    """Other bytes stand under the name already; `sha256` is that of the file that came now."""

    def __init__(self, sha256: str) -> None:
        super().__init__("other bytes of the same id")
        self.sha256 = sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What is known of a file besides its bytes: the call's start in UTC, and how many seconds it should play."""

    media: Media
    id: int
    call_id: int | None
    contact_id: int | None
    direction: str | None
    started: datetime
    attempts: int
    event: str
    seconds: int | None = None

    @property
    def stem(self) -> str:
        """What the names of all its blobs begin with: the call's UTC date, then the PBX's id."""
        return f"{self.started:%Y/%m/%d}/{self.id}"

    def metadata(self, **of_the_file: Any) -> dict[str, str]:
        """What stands in the blob's metadata, beside what is said of the file: never a phone number."""
        return self._texts(callStarted=iso(self.started), attempts=self.attempts, event=self.event, **of_the_file)

    def tags(self) -> dict[str, str]:
        """What blobs can be searched by."""
        return self._texts(kind=self.media.name, date=f"{self.started:%Y-%m-%d}")

    def _texts(self, **more: Any) -> dict[str, str]:
        known = {"sourceId": self.id, "callID": self.call_id, "contactID": self.contact_id, "direction": self.direction}
        return {name: str(value) for name, value in (known | more).items() if value not in (None, "")}


class _Reading:
    """A file as it is read: its first block until that is staged, blocks' ids, digest, and what it says of itself."""

    def __init__(self, first: bytes, audio: Audio) -> None:
        self.first: bytes | None = first
        self.ids: list[str] = []
        self.audio = audio
        self.follower = Follower(audio.content_type)
        self._digest = hashlib.sha256()
        self.add(first)

    def add(self, block: bytes) -> None:
        self._digest.update(block)
        self.follower.add(block)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def store(
    storage: Storage, description: Description, file: Download, *, final: bool = False, beside: str = ""
) -> dict[str, Any]:
    """
    Keep a file under its name, or `beside` others of its id under one with this digest; where it is and what it is.

    The same bytes again write nothing; raises OtherBytes when others stand there. Raises MediaNotReady when the file is
    empty, no audio, cut short, or holds less than its container declares; then nothing of it is visible. A `final` look
    keeps such a container as it is. What is kept so, or plays far shorter than its call, is marked `incomplete`, and
    more bytes that come later take its place.
    """
    if not (first := file.read(BLOCK_BYTES)):
        raise MediaNotReady("empty")
    read = _Reading(first, kind_of(first[:HEAD_BYTES], file.content_type))
    media, mark = description.media, beside and f".{beside[:12]}"
    container = storage.container(media.container)
    blob = container.get_blob_client(f"{description.stem}{mark}.{read.audio.extension}")
    if media.deletable and not beside:
        deletions.note_copy(storage, media, description.id, blob.blob_name)
    # All that is kept of this id, as any kind of audio.
    kept = list(container.list_blobs(name_starts_with=description.stem + ".", include=["metadata"]))
    replaced = next((one for one in kept if one.name == blob.blob_name and INCOMPLETE in (one.metadata or {})), None)
    if kept and not beside and replaced is None:
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
    metadata = description.metadata(sha256=read.sha256, size=file.size, **{INCOMPLETE: incomplete})
    return _write(blob, read, metadata, description.tags(), replaced)


def _lacking(description: Description, read: _Reading, size: int, final: bool) -> str:
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


def _write(
    blob: BlobClient, read: _Reading, metadata: dict[str, str], tags: dict[str, str], replaced: BlobProperties | None
) -> dict[str, Any]:
    """Put or commit it all at once, unless something else is there by now."""
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
    from azure.storage.blob import BlobBlock, ContentSettings

    settings = ContentSettings(content_type=read.audio.content_type)
    options: dict[str, Any] = {"metadata": metadata, "tags": tags, "content_settings": settings}
    options["match_condition"] = MatchConditions.IfMissing
    if replaced is not None:
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
    return _place(blob, metadata, read.audio.content_type, written["last_modified"])


def _stage(blob: BlobClient, read: _Reading, file: Download) -> None:
    """Stage the first block, which is taken out of `read`, and all others, each while the next one is read."""
    # Block ids are our own, whoever else is copying.
    nonce = uuid.uuid4().hex[:8]
    block, read.first = read.first or b"", None
    with ThreadPoolExecutor(1) as pool:
        while block:
            read.ids.append(base64.b64encode(f"{nonce}-{len(read.ids):06d}".encode()).decode())
            staging = pool.submit(blob.stage_block, read.ids[-1], block, length=len(block))
            if block := file.read(BLOCK_BYTES):
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
