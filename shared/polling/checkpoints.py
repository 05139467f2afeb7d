"""Table `checkpoints`: how far each resource has been read, one row a resource, changed under an ETag only."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from shared.errors import Conflict
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.storage.account import Storage

TABLE = "checkpoints"
PARTITION = "checkpoint"
_TRIES = 20
# 64-bit columns; everything else is text, a moment, or a small number.
_LONG = ("cursor", "items")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """
    How far a resource has been read.

    `started` is False until the first reading of the whole list is complete; `offset` is how far that has come.
    `begin` is the moment from which items are handed on, None for all of them. `cursor` is the largest id that
    every smaller listed one has been stored with, `items` how many are stored, `digest` the last whole listing of
    what can be edited. `lag` is in seconds, from the newest item's own time to its storing. While `paused_until`
    lies ahead the PBX is not asked.
    """

    resource: str
    begin: datetime | None = None
    started: bool = False
    offset: int = 0
    cursor: int = 0
    items: int = 0
    digest: str = ""
    lag: float | None = None
    last_success: datetime | None = None
    last_error: str = ""
    last_error_at: datetime | None = None
    paused_until: datetime | None = None
    etag: str | None = None


# Columns are written as the other tables write theirs.
_NAMES = {
    field.name: re.sub(r"_(\w)", lambda match: match[1].upper(), field.name)
    for field in fields(Checkpoint)
    if field.name not in ("resource", "etag")
}


def read(storage: Storage, resource: str) -> Checkpoint | None:
    """The resource's checkpoint, or None before its first poll."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        row = storage.table(TABLE).get_entity(PARTITION, resource)
    except ResourceNotFoundError:
        return None
    return _checkpoint(row)


def read_all(storage: Storage) -> list[Checkpoint]:
    """The checkpoints of all resources that were polled, by name."""
    rows = storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}'")
    return [_checkpoint(row) for row in rows]


def create(storage: Storage, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as it is stored now: this one, or that of whoever came first."""
    from azure.core.exceptions import ResourceExistsError

    try:
        answer = storage.table(TABLE).create_entity(_row(checkpoint))
    except ResourceExistsError:
        return read(storage, checkpoint.resource) or checkpoint
    return replace(checkpoint, etag=str(answer["etag"]))


def change(storage: Storage, seen: Checkpoint, by: Callable[[Checkpoint], Checkpoint]) -> Checkpoint:
    """
    Store what `by` makes of the checkpoint, and of the newer one where somebody else changed it in between.

    What has been read stays read: the cursor, the offset and the first reading's end never go back.
    """
    from azure.core import MatchConditions
    from azure.core.exceptions import HttpResponseError
    from azure.data.tables import UpdateMode

    current = seen
    for _ in range(_TRIES):
        wanted = by(current)
        wanted = replace(
            wanted,
            cursor=max(wanted.cursor, current.cursor),
            offset=max(wanted.offset, current.offset),
            started=wanted.started or current.started,
        )
        try:
            answer = storage.table(TABLE).update_entity(
                _row(wanted),
                mode=UpdateMode.REPLACE,
                etag=current.etag,
                match_condition=MatchConditions.IfNotModified,
            )
        except HttpResponseError as error:
            if error.status_code != 412:
                raise
            current = read(storage, seen.resource) or current
            continue
        return replace(wanted, etag=str(answer["etag"]))
    raise Conflict(f"the checkpoint of {seen.resource} kept changing")


def describe(checkpoint: Checkpoint, moment: datetime) -> dict[str, Any]:
    """The checkpoint for people to read."""
    paused = checkpoint.paused_until and moment < checkpoint.paused_until
    return {
        "resource": checkpoint.resource,
        "state": "paused" if paused else "following" if checkpoint.started else "first reading",
        "cursor": checkpoint.cursor,
        "items": checkpoint.items,
        "lagSeconds": checkpoint.lag,
        "lastSuccess": iso(checkpoint.last_success) if checkpoint.last_success else None,
        "lastError": checkpoint.last_error or None,
        "pausedUntil": iso(checkpoint.paused_until) if checkpoint.paused_until and paused else None,
    }


def _row(checkpoint: Checkpoint) -> dict[str, Any]:
    from azure.data.tables import EdmType, EntityProperty

    row: dict[str, Any] = {"PartitionKey": PARTITION, "RowKey": checkpoint.resource}
    for name, column in _NAMES.items():
        value = getattr(checkpoint, name)
        if value is not None:
            row[column] = EntityProperty(value, EdmType.INT64) if name in _LONG else value
    return row


def _checkpoint(row: Any) -> Checkpoint:
    values = {name: row[column] for name, column in _NAMES.items() if column in row}
    values |= {name: values[name].value for name in _LONG}
    return Checkpoint(resource=row["RowKey"], etag=row.metadata["etag"], **values)
