"""Messages on our queues: JSON, and a pointer to a blob where they are too long to travel."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from shared.errors import Unprocessable
from shared.json_bodies import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.account import Storage

# A queue takes 64 KiB, and base64 makes four bytes of three.
LONGEST_MESSAGE = 48 * 1024
# Longer bodies do not fit a table's row beside its other columns.
LONGEST_IN_ROW = 32 * 1024
PAYLOADS = "payloads"
_POINTER = "payload"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")


def is_name(value: Any) -> bool:
    """Whether a value from a message can name a row or a blob."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def put_payload(storage: Storage, name: str, body: bytes) -> str:
    """Keep a long body as a blob of container `payloads`; returns the blob's name."""
    storage.container(PAYLOADS).upload_blob(name, body, overwrite=True)
    return name


def get_payload(storage: Storage, name: str) -> bytes:
    """The body that put_payload kept; raises Unprocessable when it is gone, or was never there."""
    from azure.core.exceptions import ResourceNotFoundError

    if not all(map(is_name, name.split("/"))):
        raise Unprocessable("the message points to no payload")
    try:
        return storage.container(PAYLOADS).download_blob(name).readall()
    except ResourceNotFoundError as error:
        raise Unprocessable("the message points to a payload that is gone") from error


def send(storage: Storage, queue: str, message: Mapping[str, Any], *, name: str, delay: int = 0) -> None:
    """
    Put a message on a queue, to be seen after `delay` seconds; it never expires.

    A message over 48 KiB travels as a pointer to the blob `{queue}/{name}`.
    """
    body = encode(message)
    if len(body) > LONGEST_MESSAGE:
        body = encode({_POINTER: put_payload(storage, f"{queue}/{name}", body)})
    storage.queue(queue).send_message(body.decode(), visibility_timeout=delay or None, time_to_live=-1)


def read(storage: Storage, body: bytes) -> dict[str, Any]:
    """The message in a queue's body, fetched where it is a pointer; raises Unprocessable for anything else."""
    message = _parse(body)
    if message.keys() == {_POINTER}:
        message = _parse(get_payload(storage, str(message[_POINTER])))
    return message


def _parse(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unprocessable("the message is not JSON") from error
    if not isinstance(message, dict):
        raise Unprocessable("the message is not an object")
    return message
