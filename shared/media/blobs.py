"""Stores media in Blob Storage: staged in blocks, and visible under its name only when it is all there."""

from __future__ import annotations

import base64
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.errors import MediaNotReady
from shared.media import deletions
from shared.media.audio import Excerpt, kind_of, sound_of
from shared.storage.account import BLOCK_BYTES
from shared.times import iso

if TYPE_CHECKING:
    from datetime import datetime

    from azure.storage.blob import BlobClient, BlobProperties

    from shared.media.audio import Kind
    from shared.media.download import Download
    from shared.media.table import Media
    from shared.storage.account import Storage

# In a blob's metadata: "container" for a file with fewer bytes than it declares or no sound, "short" for one that is
# far shorter than its call.
INCOMPLETE = "incomplete"
# A file is far shorter than its call where more than half of it, and more than so many seconds, are missing.
_MISSING_SECONDS = 5


class OtherBytes(Exception):
    """Other bytes are stored under the name already; `sha256` is that of the file that came now."""

    def __init__(self, sha256: str) -> None:
        super().__init__("other bytes of the same id")
        self.sha256 = sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """A file's facts besides its bytes: its ids, the call's start in UTC, and the seconds that it should play."""

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
        """The beginning of the names of its blobs: the call's UTC date, then the PBX's id."""
        return f"{self.started:%Y/%m/%d}/{self.id}"

    def metadata(self, **of_the_file: Any) -> dict[str, str]:
        """Return the blob's metadata, with `of_the_file` beside: never a phone number."""
        return self._texts(callStarted=iso(self.started), attempts=self.attempts, event=self.event, **of_the_file)

    def tags(self) -> dict[str, str]:
        """Return the tags that blobs can be searched by."""
        return self._texts(kind=self.media.name, date=f"{self.started:%Y-%m-%d}")

    def _texts(self, **more: Any) -> dict[str, str]:
        known = {"sourceId": self.id, "callID": self.call_id, "contactID": self.contact_id, "direction": self.direction}
        return {name: str(value) for name, value in (known | more).items() if value not in (None, "")}


@dataclass(slots=True)
class _Reading:
    """A file as it is read: its kind, its first block until that is staged, and the ids of its blocks."""

    kind: Kind
    first: bytes | None
    excerpt: Excerpt
    ids: list[str] = field(default_factory=list)


def store(
    storage: Storage, description: Description, file: Download, *, final: bool = False, beside: str = ""
) -> dict[str, Any]:
    """
    Keep a file under its name, or `beside` another of its id under one with this digest, and return its place.

    The same bytes again write nothing; raises OtherBytes when others are stored. Raises MediaNotReady when the file is
    empty, text, without sound, or shorter than it declares; then nothing of it is visible. A `final` look keeps the
    latter two. Those, and a file far shorter than its call, are marked incomplete and replaced by more bytes.
    """
    if not (first := file.read(BLOCK_BYTES)):
        raise MediaNotReady("empty")
    read = _Reading(kind_of(first, file.content_type), first, Excerpt(first))
    media, mark = description.media, beside and f".{beside[:12]}"
    name = f"{description.stem}{mark}.{read.kind.extension}"
    blob = storage.container(media.container).get_blob_client(name)
    if media.deletable and not beside:
        deletions.note_copy(storage, media, description.id, name)
    stored = None
    if len(first) == BLOCK_BYTES:
        stored = blob.get_blob_properties() if blob.exists() else None
        # Handed over, not lent: kept here, the block would stay in memory until the end.
        del first
        _rest(blob, read, file, stage=stored is None or _is_incomplete(stored))
    incomplete = _lack(description, read, final)
    metadata = description.metadata(sha256=read.excerpt.sha256, size=file.size, **{INCOMPLETE: incomplete})
    if stored is None and (written := _write(blob, read, metadata, description.tags(), None)):
        return written
    # Another copy is stored, by now or for long.
    stored = stored or blob.get_blob_properties()
    if (stored.metadata or {}).get("sha256") == read.excerpt.sha256:
        return _stored(blob, stored)
    if not _is_incomplete(stored):
        raise OtherBytes(read.excerpt.sha256)
    if (stored.size or 0) < file.size:
        if written := _write(blob, read, metadata, description.tags(), stored):
            return written
        raise OtherBytes(read.excerpt.sha256)
    return _stored(blob, stored)


def _lack(description: Description, read: _Reading, final: bool) -> str:
    """Return what a file lacks, as a word for its metadata; raises MediaNotReady where it may still come."""
    sound, size = sound_of(read.kind, read.excerpt), read.excerpt.size
    wanted = description.seconds
    # A caller who hangs up at the beep leaves a file without sound.
    silent = not sound.there and wanted == 0
    if (not sound.there and not silent) or (sound.declared is not None and size < sound.declared):
        if not final:
            raise MediaNotReady("less than its container declares" if sound.there else "no audio in it yet")
        return "container"
    if sound.seconds is not None and wanted and wanted - sound.seconds > max(wanted / 2, _MISSING_SECONDS):
        return "short"
    return ""


def _is_incomplete(properties: BlobProperties) -> bool:
    return INCOMPLETE in (properties.metadata or {})


def _rest(blob: BlobClient, read: _Reading, file: Download, *, stage: bool) -> None:
    """Read the other blocks, and stage them and the first one, which is taken out of `read`, unless only to compare."""
    # Block ids are our own, whoever else is copying.
    nonce = uuid.uuid4().hex[:8]
    block, read.first = read.first or b"", None
    with ThreadPoolExecutor(1) as pool:
        while block:
            if stage:
                read.ids.append(base64.b64encode(f"{nonce}-{len(read.ids):06d}".encode()).decode())
                staging = pool.submit(blob.stage_block, read.ids[-1], block, length=len(block))
            if block := file.read(BLOCK_BYTES):
                read.excerpt.add(block)
            if stage:
                staging.result()


def _write(
    blob: BlobClient, read: _Reading, metadata: dict[str, str], tags: dict[str, str], replaced: BlobProperties | None
) -> dict[str, Any] | None:
    """Put or commit it all at once, or return None where something else is stored by now."""
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
    from azure.storage.blob import BlobBlock, ContentSettings

    settings = ContentSettings(content_type=read.kind.content_type)
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
        # Another copy came first, or a policy lets nothing take its place.
        return None
    return _place(blob, metadata, read.kind.content_type, written["last_modified"])


def _stored(blob: BlobClient, properties: BlobProperties) -> dict[str, Any]:
    kind = properties.content_settings.content_type or ""
    return _place(blob, properties.metadata or {}, kind, properties.creation_time)


def _place(blob: BlobClient, metadata: dict[str, str], content_type: str, at: datetime) -> dict[str, Any]:
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
