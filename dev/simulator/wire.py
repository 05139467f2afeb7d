"""Items as the simulator writes them on the wire, with what may differ between PBXs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dev.simulator.audio import AudioFile

Item = dict[str, Any]


@dataclass
class Options:
    """
    Settings of a PBX that may change without notice; every field can be set at any time.

    `order`: `newest`, `oldest`, `random` (one shuffle of the whole list) or `shuffled-page`. `empty`: `data` or `404`.
    """

    order: str = "newest"
    empty: str = "data"
    page_cap: int = 1000
    refused: set[str] = field(default_factory=set)  # operationIds that the key may not call
    webhook_cap: int = 20
    webhook_location: str = "absolute"  # absolute, relative or none
    webhook_data: str = "string"  # number, string, object or none
    extra_fields: bool = False
    file_needs_key: bool = False


@dataclass(frozen=True)
class Seen:
    """A request that came in: its parts, and the HTTP status answered (0: cut off)."""

    method: str
    path: str
    query: str
    operation: str  # empty for audio
    status: int
    authorized: bool  # it carried an Authorization header


def shown(item: Item, base_url: str, *, extra_fields: bool = False) -> Item:
    """Return the item as the PBX shows it: without inner fields, values in their wire format."""
    found: Item = {}
    for name, value in item.items():
        if name[0] == "_":
            continue
        if isinstance(value, datetime):
            found[name] = f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}+0000"
        elif isinstance(value, AudioFile):
            found[name] = f"{base_url}/files/{value.token}"
        elif isinstance(value, (tuple, list)):
            found[name] = [shown(part, base_url) if isinstance(part, dict) else part for part in value]
        else:
            found[name] = value
    if extra_fields:
        found["queueName"] = "Pārdošana"
    return found


def encode(value: object) -> bytes:
    """Return JSON as the PBX sends it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def envelope(status: int, message: str, data: Any = None) -> dict[str, Any]:
    """Return the wrapping of every answer."""
    return {
        "version": "v2",
        "status": "success" if status < 400 else "error",
        "statusCode": status,
        "message": message,
        "data": data,
    }


def read_time(text: str) -> datetime:
    """Read a time that a caller sent; raise ValueError where it is none."""
    moment = datetime.fromisoformat(text.replace(" ", "+"))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
