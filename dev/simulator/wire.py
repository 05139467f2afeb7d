"""The wire format of the simulator, and the options in which PBXs may differ."""

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
    Behaviour that the PBX does not document; every field can be changed at any time.

    `order`: `newest`, `oldest`, `random` (a fixed shuffle of the whole list) or `shuffled-page`. `empty`: `data` or
    `404`.
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
    """A received request, and the HTTP status of its answer; 0 if the connection was reset."""

    method: str
    path: str
    query: str
    operation: str  # empty for audio
    status: int
    authorized: bool  # it had an Authorization header


def shown(item: Item, base_url: str, *, extra_fields: bool = False) -> Item:
    """Return the wire format of an item, without inner fields; their names begin with an underscore."""
    fields: Item = {}
    for name, value in item.items():
        if name[0] == "_":
            continue
        if isinstance(value, datetime):
            fields[name] = f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}+0000"
        elif isinstance(value, AudioFile):
            fields[name] = f"{base_url}/files/{value.token}"
        elif isinstance(value, (tuple, list)):
            fields[name] = [shown(part, base_url) if isinstance(part, dict) else part for part in value]
        else:
            fields[name] = value
    if extra_fields:
        fields["queueName"] = "Pārdošana"
    return fields


def encode(value: object) -> bytes:
    """Return JSON as the PBX sends it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def envelope(status: int, message: str, data: Any = None) -> dict[str, Any]:
    """Return an answer's data in the wrapper of all answers."""
    return {
        "version": "v2",
        "status": "success" if status < 400 else "error",
        "statusCode": status,
        "message": message,
        "data": data,
    }


def read_time(text: str) -> datetime:
    """Parse a time from a query; ValueError if it is invalid."""
    moment = datetime.fromisoformat(text.replace(" ", "+"))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
