"""
Messages on our queues: JSON objects in ASCII, and a pointer to a blob where they are too long to travel.

| Field | Content |
|---|---|
| `sent` | when it was first sent, as ISO 8601 |
| `mark` | its own token, kept however often it comes back: a row that has it is this message's work |
| `begun` | true once it has been worked on: the work may be half done |
| `tries` | how often it was put back, by the reason (see `storage/retries`) |
| `payload` | the blob that holds the rest, in place of all other fields |
"""

from __future__ import annotations

import json
import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.errors import StorageUnavailable, Unprocessable
from shared.storage.expiry import delete_versions
from shared.times import iso, now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.storage.blob import BlobClient

    from shared.storage.account import Storage

# A queue takes 64 KiB.
LONGEST_MESSAGE = 63 * 1024
# Longer bodies do not fit a table's row beside its other columns.
LONGEST_IN_ROW = 32 * 1024
PAYLOADS = "payloads"
_POINTER = "payload"
_OUTSIDE = ("sent", "mark", "begun", "tries")
# Fields in which a message has what was sent about a person.
_PERSONAL = frozenset({"body", "record"})
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
# Queues speak XML: plain ASCII has nothing in it that XML refuses, not even half a character.
_spell = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class PayloadGone(Unprocessable):
    """The blob that a message or a row points to is deleted."""


def is_name(value: Any) -> bool:
    """Return True if a value from a message can name a row or a blob."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def put_payload(storage: Storage, name: str, body: bytes, *, first: bool = False) -> str:
    """Store a long body as a blob of container `payloads`, or the `first` of its name; return the blob's name."""
    from azure.core.exceptions import ResourceExistsError

    try:
        storage.container(PAYLOADS).upload_blob(name, body, overwrite=not first)
    except ResourceExistsError:
        if not first:
            raise
    return name


def get_payload(storage: Storage, name: str) -> bytes:
    """Return the body that put_payload stored; raise Unprocessable where it is gone, or was never there."""
    from azure.core.exceptions import ResourceNotFoundError

    if not all(map(is_name, name.split("/"))):
        raise Unprocessable("the message points to no payload")
    try:
        return read_blob(storage.container(PAYLOADS).get_blob_client(name))
    except ResourceNotFoundError as error:
        raise PayloadGone("the message points to a payload that is gone") from error


def read_blob(blob: BlobClient, offset: int | None = None, length: int | None = None) -> bytes:
    """Return the bytes of a blob, or of a part of it; raises the SDK's ResourceNotFoundError."""
    from azure.core.exceptions import AzureError, ResourceNotFoundError

    try:
        return blob.download_blob(offset, length).readall()
    except ResourceNotFoundError:
        raise
    except AzureError as error:
        # Its answer is read as it comes, outside of the transport.
        raise StorageUnavailable("a blob broke off") from error


def send(storage: Storage, queue: str, message: Mapping[str, Any], *, name: str, delay: int = 0) -> None:
    """
    Put a message on a queue, to be seen after `delay` seconds; it never expires. Raises StorageUnavailable.

    A message over 63 KiB travels as a pointer to a blob `{queue}/{name}-{mark}`, and so does one about a person that
    waits: nobody can look into a queue for it. Where the queue's answer is lost the message may be there twice, with
    one mark.
    """
    whole = {"sent": iso(now()), "mark": secrets.token_hex(8), **message}
    text = _spell(whole)
    # XML escapes these.
    length = len(text) + 4 * text.count("&") + 3 * (text.count("<") + text.count(">"))
    if length > LONGEST_MESSAGE or (delay and not _PERSONAL.isdisjoint(whole)):
        pointer = {_POINTER: put_payload(storage, f"{queue}/{name}-{whole['mark']}", text.encode())}
        text = _spell({field: whole[field] for field in _OUTSIDE if field in whole} | pointer)
    storage.queue(queue).send_message(text, visibility_timeout=delay or None, time_to_live=-1)


def read(storage: Storage, body: bytes) -> dict[str, Any]:
    """Return the message in a queue's body, fetched where it is a pointer; raise Unprocessable for anything else."""
    message = parse(body)
    if _POINTER in message:
        inner = parse(get_payload(storage, str(message.pop(_POINTER))))
        message = {**inner, **message}
    return message


def delete_payload(storage: Storage, body: bytes) -> None:
    """Delete the blob that the message in a queue's body points to, once its work is done."""
    with suppress(Unprocessable):
        if name := parse(body).get(_POINTER):
            delete_versions(storage.container(PAYLOADS), str(name))


def parse(body: bytes) -> dict[str, Any]:
    """Return the object in a body, a pointer as it is; raise Unprocessable for anything else."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unprocessable("the message is not JSON") from error
    if not isinstance(message, dict):
        raise Unprocessable("the message is not an object")
    return message
