"""Serves stored audio over HTTP, by the container and name in its event: whole, or the range that was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from shared.errors import AUDIO_TOO_LARGE, NotFound, Refused
from shared.media.table import MEDIA
from shared.storage.messages import read_blob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.account import Storage

# An answer is held in memory: a whole file up to LARGEST bytes, and this much of any file that is read by ranges.
LARGEST = 32 * 1024 * 1024
RANGE_BYTES = 4 * 1024 * 1024
NAME_PATTERN = r"[0-9]{4}/[0-9]{2}/[0-9]{2}/[A-Za-z0-9-]{1,200}(?:\.[0-9a-f]{12})?\.[a-z0-9]{1,12}"


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
