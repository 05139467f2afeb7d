"""Stores media in Blob Storage: staged in blocks, and visible under its name only when it is all there."""

from __future__ import annotations

import base64
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.errors import AUDIO_TOO_LARGE, MediaNotReady, NotFound, Refused
from shared.media import deletions
from shared.media.audio import kind_of, sound_of
from shared.storage.account import BLOCK_BYTES
from shared.storage.messages import read_blob
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from azure.storage.blob import BlobClient, BlobProperties

    from shared.media.download import Download, Excerpt
    from shared.storage.account import Storage

# In a blob's metadata: "container" for a file with fewer bytes than it declares or no sound, "short" for one that is
# far shorter than its call.
INCOMPLETE = "incomplete"
# A file is far shorter than its call where more than half of it, and more than so many seconds, are missing.
_MISSING_SECONDS = 5

# An answer is held in memory: a whole file up to LARGEST bytes, and this much of any file that is read by ranges.
LARGEST = 32 * 1024 * 1024
RANGE_BYTES = 4 * 1024 * 1024
NAME_PATTERN = r"[0-9]{4}/[0-9]{2}/[0-9]{2}/[A-Za-z0-9-]{1,200}(?:\.[0-9a-f]{12})?\.[a-z0-9]{1,12}"


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


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file that was read: its blob, and its bytes or the ids of its blocks that are staged there."""

    blob: BlobClient
    content: bytes | list[str]
    content_type: str
    metadata: dict[str, str]
    tags: dict[str, str]

    def write(self, replaced: BlobProperties | None) -> dict[str, Any] | None:
        """Put or commit it all at once, and return its place; None where something else is stored by now."""
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
        from azure.storage.blob import BlobBlock, ContentSettings

        settings = ContentSettings(content_type=self.content_type)
        options: dict[str, Any] = {"metadata": self.metadata, "tags": self.tags, "content_settings": settings}
        options["match_condition"] = MatchConditions.IfMissing
        if replaced is not None:
            options |= {"etag": replaced.etag, "match_condition": MatchConditions.IfNotModified}
        try:
            if isinstance(self.content, bytes):
                written = self.blob.upload_blob(self.content, overwrite=True, **options)
            else:
                blocks = [BlobBlock(block_id=id) for id in self.content]
                written = self.blob.commit_block_list(blocks, **options)
        except (ResourceExistsError, ResourceModifiedError):
            # Another copy came first, or a policy lets nothing take its place.
            return None
        return _place(self.blob, self.metadata, self.content_type, written["last_modified"])


def store(
    storage: Storage, description: Description, file: Download, *, final: bool = False, beside: str = ""
) -> dict[str, Any]:
    """
    Keep a file under its name, or `beside` another of its id under one with this digest, and return its place.

    The same bytes again write nothing; raises OtherBytes when others are stored. Raises MediaNotReady when the file is
    empty, text, without sound, or shorter than it declares; then nothing of it is visible. A `final` look keeps the
    latter two. Those, and a file far shorter than its call, are marked incomplete and replaced by more bytes.
    """
    if not (content := file.read(BLOCK_BYTES)):
        raise MediaNotReady("empty")
    content_type, extension = kind_of(content, file.content_type)
    media, mark = description.media, beside and f".{beside[:12]}"
    name = f"{description.stem}{mark}.{extension}"
    blob = storage.container(media.container).get_blob_client(name)
    if media.deletable and not beside:
        deletions.note_copy(storage, media, description.id, name)
    stored, blocks = None, list[str]()
    if len(content) == BLOCK_BYTES:
        stored = blob.get_blob_properties() if blob.exists() else None
        blocks = _read_on(blob, file, content, stage=stored is None or INCOMPLETE in (stored.metadata or {}))
    sha256, size = file.excerpt.digest.hexdigest(), file.excerpt.size
    lack = _lack(description, extension, file.excerpt, final)
    metadata = description.metadata(sha256=sha256, size=size, **{INCOMPLETE: lack})
    new = _Copy(blob, blocks or content, content_type, metadata, description.tags())
    if stored is None:
        if place := new.write(None):
            return place
        stored = blob.get_blob_properties()
    known, is_more = stored.metadata or {}, (stored.size or 0) < size
    if known.get("sha256") == sha256 or (INCOMPLETE in known and not is_more):
        return _place(blob, known, stored.content_settings.content_type or "", stored.creation_time)
    if INCOMPLETE in known and (place := new.write(stored)):
        return place
    raise OtherBytes(sha256)


def _read_on(blob: BlobClient, file: Download, block: bytes, *, stage: bool) -> list[str]:
    """Read the rest of a long file; `stage` each block while the next one is read, and return their ids."""
    # Block ids are our own, whoever else is copying.
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


def _lack(description: Description, extension: str, excerpt: Excerpt, final: bool) -> str:
    """Return what a file lacks, as a word for its metadata; raises MediaNotReady where it may still come."""
    sound, wanted = sound_of(extension, excerpt), description.seconds
    # A caller who hangs up at the beep leaves a file without sound.
    is_silent = not sound.there and wanted != 0
    if is_silent or (sound.declared is not None and excerpt.size < sound.declared):
        if not final:
            raise MediaNotReady("less than its container declares" if sound.there else "no audio in it yet")
        return "container"
    if sound.seconds is not None and wanted and wanted - sound.seconds > max(wanted / 2, _MISSING_SECONDS):
        return "short"
    return ""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """
    A row: a kind of media, its container, its resource at the PBX, and the event that announces a stored copy.

    `lacking` are the fields that the PBX's event lacks and the polled list has, `seconds` is the field with the length
    of the audio. Of a `deletable` kind the PBX sends an event when a user deletes one there.
    """

    name: str
    container: str
    resource: str
    url: str
    seconds: str
    stored: str
    lacking: tuple[str, ...] = ()
    deletable: bool = False

    @property
    def id(self) -> str:
        """Return the PBX's name of its id."""
        return f"{self.name}ID"


MEDIA: tuple[Media, ...] = (
    Media(
        name="recording",
        container="recordings",
        resource="call_records",
        url="recordingURL",
        seconds="connectionTime",
        stored="RecordingStored",
        lacking=("caller", "destination", "contactID"),
    ),
    Media(
        name="voicemail",
        container="voicemails",
        resource="voicemails",
        url="messageURL",
        seconds="length",
        stored="VoicemailStored",
        deletable=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Part:
    """An answer: 200 with a whole file, 206 with a range of it, or 416 for a range that begins behind its end."""

    status: HTTPStatus
    content: bytes
    content_type: str
    headers: Mapping[str, str]


def read_range(storage: Storage, container: str, name: str, wanted: str | None = None) -> Part:
    """
    Return a stored file; `wanted` is a Range header, of which at most RANGE_BYTES are answered.

    A header that is no single range of bytes counts as none. Raises NotFound for a name that no audio has and a blob
    that is not there, Refused for a whole file of more than LARGEST bytes, and StorageUnavailable.
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
        size, kind = properties.size, _playable(properties.content_settings.content_type or "")
        span = _span(wanted or "", size)
        if span is None:
            if size > LARGEST:
                raise Refused(AUDIO_TOO_LARGE)
            return _part(HTTPStatus.OK, read_blob(blob), kind)
        first, last = span
        if first >= size:
            return _part(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", kind, f"bytes */{size}")
        content = read_blob(blob, first, last - first + 1)
        return _part(HTTPStatus.PARTIAL_CONTENT, content, kind, f"bytes {first}-{last}/{size}")
    except ResourceNotFoundError as error:
        raise NotFound("no such file") from error


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte of a range, or None for a header that is to be ignored."""
    from werkzeug.http import parse_range_header

    found = parse_range_header(wanted)
    if found is None or found.units != "bytes" or len(found.ranges) != 1:
        return None
    first, end = found.ranges[0]
    # A negative one is a suffix: the last so many bytes.
    first = max(0, size + first) if first < 0 else first
    return first, min(size if end is None else end, size, first + RANGE_BYTES) - 1


def _part(status: HTTPStatus, content: bytes, kind: str, span: str = "") -> Part:
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(len(content))}
    return Part(status, content, kind, headers | ({"Content-Range": span} if span else {}))


def _playable(content_type: str) -> str:
    # Nothing that a browser would run, whoever put it there.
    return content_type if content_type.startswith(("audio/", "video/")) else "application/octet-stream"
