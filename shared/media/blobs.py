"""
Stores audio in Blob Storage, marks or deletes what the PBX has deleted, and reads it back.

Table `media` has a row for each voicemail: the name of its blob, and when the PBX deleted it.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared import people
from shared.errors import AUDIO_TOO_LARGE, MediaNotReady, NotFound, Refused
from shared.media.audio import Download, kind_of, sound_of
from shared.storage import rows
from shared.storage.account import BLOCK_BYTES, Storage
from shared.storage.messages import delete_versions, read_blob
from shared.storage.rows import Allowance, Period, descending, expire_rows, from_descending
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient

TABLE = "media"
# In a blob's metadata: "container" for a file with fewer bytes than it declares or no sound, "short" for one that is
# far shorter than its call.
INCOMPLETE = "incomplete"
# In the row, and in a blob's metadata: when the PBX deleted it.
_DELETED = "deletedAtPbx"
# A file is far shorter than its call if more than half of it, and more than so many seconds, are missing.
_MISSING_SECONDS = 5
NAME_PATTERN = r"[0-9]{4}/[0-9]{2}/[0-9]{2}/[A-Za-z0-9-]{1,200}(?:\.[0-9a-f]{12})?\.[a-z0-9]{1,12}"
# An answer is held in memory: a whole file up to LARGEST bytes, and this much of any file that is read by ranges.
LARGEST = 32 * 1024 * 1024
RANGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Media:
    """
    A row: a kind of media, its resource at the PBX, and the fields with the address and the length of the audio.

    `lacking` has the fields that the PBX's event lacks and the polled list has. The PBX sends an event when a user
    deletes media of a `deletable` kind.
    """

    name: str
    resource: str
    url: str
    seconds: str
    lacking: tuple[str, ...] = ()
    deletable: bool = False

    @property
    def id(self) -> str:
        """Return the name of the PBX's field with the id."""
        return f"{self.name}ID"

    @property
    def container(self) -> str:
        return f"{self.name}s"

    @property
    def stored(self) -> str:
        """Return the name of the event that announces a stored copy."""
        return f"{self.name.capitalize()}Stored"


MEDIA = (
    Media("recording", "call_records", "recordingURL", "connectionTime", ("caller", "destination", "contactID")),
    Media("voicemail", "voicemails", "messageURL", "length", deletable=True),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """
    A file without its bytes: its id, its call's start in UTC, and the seconds that it should play.

    The names of its blobs begin with `stem`. Their `metadata` and `tags` have no phone number.
    """

    media: Media
    id: int
    started: datetime
    seconds: int | None
    stem: str
    metadata: dict[str, str]
    tags: dict[str, str]


class OtherBytes(Exception):
    """Other bytes are stored under the name already; the text is the SHA-256 of the new file."""


def store(
    storage: Storage, description: Description, file: Download, *, final: bool = False, beside: str = ""
) -> dict[str, Any]:
    """
    Store a file and return its place; `beside` is the digest in its name if other bytes have its usual name.

    The same bytes again write nothing; other bytes raise OtherBytes. Raises MediaNotReady if the file is empty, text,
    without sound, or shorter than it declares; then nothing of it is visible. A `final` try keeps the latter two. They,
    and a file far shorter than its call, are marked incomplete and replaced by a longer file.
    """
    if not (content := file.read(BLOCK_BYTES)):
        raise MediaNotReady("empty")
    content_type, extension = kind_of(content, file.content_type)
    media, mark = description.media, beside and f".{beside[:12]}"
    blob = storage.container(media.container).get_blob_client(f"{description.stem}{mark}.{extension}")
    if media.deletable and not beside:
        # Only this row still has the blob's name once the PBX has deleted it. A merge keeps a deletion's columns.
        row = {"PartitionKey": media.name, "RowKey": descending(description.id), "at": now(), "blob": blob.blob_name}
        rows.merge(storage.table(TABLE), row)
    stored, blocks = None, list[str]()
    if len(content) == BLOCK_BYTES:
        stored = blob.get_blob_properties() if blob.exists() else None
        blocks = _read_on(blob, file, content, stage=stored is None or INCOMPLETE in (stored.metadata or {}))
    sha256, size = file.excerpt.digest.hexdigest(), file.excerpt.size
    lack = _lack(description, extension, file, final)
    metadata = {**description.metadata, "sha256": sha256, "size": str(size)} | ({INCOMPLETE: lack} if lack else {})
    write = partial(_write, blob, blocks or content, content_type, metadata=metadata, tags=description.tags)
    written = write(replaced=None) if stored is None else None
    if written is None:
        stored = stored or blob.get_blob_properties()
        earlier = stored.metadata or {}
        if earlier.get("sha256") == sha256 or (INCOMPLETE in earlier and (stored.size or 0) >= size):
            return _place(blob, earlier, stored.content_settings.content_type or "", stored.creation_time)
        written = write(replaced=stored.etag) if INCOMPLETE in earlier else None
    if written is None:
        raise OtherBytes(sha256)
    return _place(blob, metadata, content_type, written["last_modified"])


def _read_on(blob: BlobClient, file: Download, block: bytes, *, stage: bool) -> list[str]:
    """Read the rest of a long file; `stage` each block while the next one is read, and return their ids."""
    # Simultaneous copies have block ids of their own.
    ids, nonce = list[str](), uuid.uuid4().hex[:8]
    with ThreadPoolExecutor(1) as pool:
        while block:
            if stage:
                ids.append(base64.b64encode(f"{nonce}-{len(ids):06d}".encode()).decode())
                staging = pool.submit(blob.stage_block, ids[-1], block, length=len(block))
            block = file.read(BLOCK_BYTES)
            if stage:
                staging.result()
    return ids


def _lack(description: Description, extension: str, file: Download, final: bool) -> str:
    """Return the mark of an incomplete file, or an empty text; raises MediaNotReady if the rest may still arrive."""
    sound, wanted = sound_of(extension, file.excerpt), description.seconds
    # A caller who hangs up at the beep leaves a file without sound.
    is_silent = not sound.there and wanted != 0
    if is_silent or file.is_cut or (sound.declared is not None and file.excerpt.size < sound.declared):
        if not final:
            raise MediaNotReady("less than it declares" if sound.there else "no audio in it yet")
        return "container"
    if sound.seconds is not None and wanted and wanted - sound.seconds > max(wanted / 2, _MISSING_SECONDS):
        return "short"
    return ""


def _write(
    blob: BlobClient, content: bytes | list[str], content_type: str, *, replaced: str | None, **options: Any
) -> dict[str, Any] | None:
    """Put bytes or commit blocks, in place of the ETag `replaced`; return None if another file is stored by now."""
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
    from azure.storage.blob import BlobBlock, ContentSettings

    options |= {"content_settings": ContentSettings(content_type), "match_condition": MatchConditions.IfMissing}
    if replaced is not None:
        options |= {"etag": replaced, "match_condition": MatchConditions.IfNotModified}
    try:
        if isinstance(content, bytes):
            return blob.upload_blob(content, overwrite=True, **options)
        return blob.commit_block_list([BlobBlock(block_id=id) for id in content], **options)
    except (ResourceExistsError, ResourceModifiedError):
        # Another copy was first, or a policy forbids replacing the file.
        return None


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


def withdraw(storage: Storage, media: Media, id: int, *, when: str, delete: bool, inferred: bool = False) -> None:
    """
    Store that the PBX has deleted a file, then mark our copies in their metadata, or delete them.

    The row is written first: a copier reads it after storing the blob. A deletion `inferred` from lists only marks.
    """
    columns = {"at": now(), _DELETED: parse_time(when), "inferred": inferred}

    def deleted(row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        # A deletion that is stored takes precedence over one that is inferred.
        return None if inferred and row and _DELETED in row else {**(row or {}), **columns}

    rows.change(storage.table(TABLE), media.name, descending(id), deleted)
    withdraw_copies(storage, media, id, delete=delete)


def withdraw_copies(storage: Storage, media: Media, id: int, *, delete: bool) -> bool:
    """Mark or delete our copies of what the PBX has deleted, and return True if they are deleted."""
    row = deletion(storage, media, id)
    if row is None:
        return False
    is_deleted, container = delete and not row["inferred"], storage.container(media.container)
    stem = row.get("blob", "").rpartition(".")[0]
    if stem and is_deleted:
        delete_versions(container, f"{stem}.")
    elif stem:
        for blob in container.list_blobs(name_starts_with=f"{stem}.", include=["metadata"]):
            metadata = blob.metadata or {}
            if _DELETED not in metadata:
                container.get_blob_client(blob.name).set_blob_metadata({**metadata, _DELETED: iso(row[_DELETED])})
    return is_deleted


def deletion(storage: Storage, media: Media, id: int) -> Mapping[str, Any] | None:
    """Return the row of a file that the PBX has deleted, else None; `inferred` is True if only lists show it."""
    row = rows.get(storage.table(TABLE), media.name, descending(id)) if media.deletable else None
    return row if row is not None and _DELETED in row else None


def copies(storage: Storage, media: Media, starts: Mapping[int, datetime]) -> dict[int, Mapping[str, Any]]:
    """Return the rows by id, for ids with the starts of their calls; `blob` is set once a copy is on its way."""
    by_key = people.rows_of(storage.table(TABLE), media.name, [(descending(id), at) for id, at in starts.items()])
    return {from_descending(key): row for key, row in by_key.items()}


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the rows of a period; the audio itself goes by the rules of its account."""
    return expire_rows(storage.table(TABLE), period.condition("at"), allowance)


@dataclass(frozen=True, slots=True)
class Part:
    """An answer: 200 with a whole file, 206 with a range of it, or 416 for a range that begins past its end."""

    status: HTTPStatus
    content: bytes
    content_type: str
    headers: Mapping[str, str]


def read_range(storage: Storage, container: str, name: str, wanted: str | None = None) -> Part:
    """
    Return a stored file; `wanted` is a Range header, and a range is cut to RANGE_BYTES.

    A header that is no single range of bytes is ignored. Raises NotFound for a name that no audio has or a blob that
    does not exist, Refused for a whole file of more than LARGEST bytes, and StorageUnavailable.
    """
    if container not in {row.container for row in MEDIA} or not re.fullmatch(NAME_PATTERN, name):
        raise NotFound("no audio has this name")
    return part_of(storage, container, name, wanted)


def part_of(storage: Storage, container: str, name: str, wanted: str | None = None) -> Part:
    """Return a blob as `read_range` does, of any container and name."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        blob = storage.container(container).get_blob_client(name)
        properties = blob.get_blob_properties()
        size, span = properties.size, _span(wanted or "", properties.size)
        if span is None:
            if size > LARGEST:
                raise Refused(AUDIO_TOO_LARGE)
            status, content, place = HTTPStatus.OK, read_blob(blob), ""
        elif span[0] >= size:
            status, content, place = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", f"bytes */{size}"
        else:
            first, last = span
            content, place = read_blob(blob, first, last - first + 1), f"bytes {first}-{last}/{size}"
            status = HTTPStatus.PARTIAL_CONTENT
    except ResourceNotFoundError as error:
        raise NotFound("no such file") from error
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(len(content))}
    kind = properties.content_settings.content_type or ""
    # A browser must not run anything that was put there.
    kind = kind if kind.startswith(("audio/", "video/")) else "application/octet-stream"
    return Part(status, content, kind, headers | ({"Content-Range": place} if place else {}))


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte of a range, or None for a header to ignore."""
    from werkzeug.http import parse_range_header

    header = parse_range_header(wanted)
    if header is None or header.units != "bytes" or len(header.ranges) != 1:
        return None
    first, end = header.ranges[0]
    # A negative number is a suffix range, counted from the end.
    first = max(0, size + first) if first < 0 else first
    return first, min(size if end is None else end, size, first + RANGE_BYTES) - 1
