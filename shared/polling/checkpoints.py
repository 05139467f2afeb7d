"""Table `checkpoints`: how far each resource has been read, one row for each list that is polled."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.schedules import polls, times_due
from shared.storage import rows
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

TABLE = "checkpoints"
FORBIDDEN = (
    "the PBX answers 403 to everything. In its panel, under Integration, check the key's list of IP addresses (this "
    "app's outbound addresses may have changed), the key itself, and the API methods that it may use; polling goes on "
    "by itself within minutes once it is allowed"
)
PARTITION = "checkpoint"
# An idle poll writes nothing but this rarely, to show that it runs.
HEARTBEAT = timedelta(minutes=10)
# So long a run may take, and a timer be late.
_SLACK = timedelta(minutes=5)
# A list that is polled as often as this is heard of before anybody has to look.
_SOON = timedelta(minutes=10)
# Instances that begin soon after one another are one start.
_ONE_START = timedelta(minutes=3)
_START = "start"
# 64-bit columns; everything else is text, a moment, or a small number.
_LONG = ("cursor", "items", "sequence")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """
    How far a resource has been read.

    `started` is False until the first reading of the whole list is complete. `begin` is the moment from which items
    are handed on, None for all of them. `cursor` is the largest id of what was read as news. `left` is what is still
    to be read of the first reading, and of bursts that were too long for one poll: Windows as JSON. `partial` says
    that a list which knows no dates could not be read to its end. `items` is how many are stored, `unreadable` how
    many had no readable id in the last listing, `digest` the last whole listing of what can be edited, and `sequence`
    the head's when that was stored. `lag` is in seconds, from the newest item's own time to its storing. `swept` is
    when the last complete sweep began, `sweep_error` what it could not look up by id.
    `forbidden_since` is when the PBX began to answer 403; while `paused_until` lies ahead it is not asked.
    """

    resource: str
    begin: datetime | None = None
    started: bool = False
    cursor: int = 0
    left: str = ""
    partial: bool = False
    items: int = 0
    unreadable: int = 0
    digest: str = ""
    sequence: int = 0
    lag: float | None = None
    last_success: datetime | None = None
    last_error: str = ""
    last_error_at: datetime | None = None
    swept: datetime | None = None
    sweep_error: str = ""
    forbidden_since: datetime | None = None
    paused_until: datetime | None = None
    row: rows.Row | None = field(default=None, compare=False, repr=False)

    def is_paused(self, moment: datetime) -> bool:
        """Whether the PBX is not asked for the resource at this moment."""
        return self.paused_until is not None and moment < self.paused_until


# Columns are written as the other tables write theirs.
_NAMES = {
    part.name: re.sub(r"_(\w)", lambda match: match[1].upper(), part.name)
    for part in fields(Checkpoint)
    if part.name not in ("resource", "row")
}


def read(storage: Storage, resource: str) -> Checkpoint | None:
    """The resource's checkpoint, or None before its first poll."""
    row = rows.get(storage.table(TABLE), PARTITION, resource)
    return None if row is None else _checkpoint(row)


def read_all(storage: Storage) -> list[Checkpoint]:
    """The checkpoints of all that was polled, by name."""
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}'")
    return [_checkpoint(rows.Row(row, str(row.metadata["etag"]))) for row in found]


def create(storage: Storage, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as it is stored now: this one, or that of whoever came first."""
    keys = {"PartitionKey": PARTITION, "RowKey": checkpoint.resource}
    rows.insert(storage.table(TABLE), {**keys, **_columns(checkpoint)})
    return read(storage, checkpoint.resource) or checkpoint


def change(storage: Storage, seen: Checkpoint, by: Callable[[Checkpoint], Checkpoint]) -> Checkpoint:
    """
    Store what `by` makes of the checkpoint, and of the newer one where somebody else changed it in between.

    What has been read stays read: the cursor, the sequence and the first reading's end never go back.
    """

    def columns(row: rows.Row | None) -> dict[str, Any]:
        current = seen if row is None else _checkpoint(row)
        wanted = by(current)
        kept = {name: max(getattr(wanted, name), getattr(current, name)) for name in ("cursor", "sequence", "started")}
        return _columns(replace(wanted, **kept))

    table, key = storage.table(TABLE), (PARTITION, seen.resource)
    written = rows.change(table, *key, columns, seen.row) if seen.row else rows.change(table, *key, columns)
    return seen if written is None else _checkpoint(written)


def claim_start(storage: Storage, release: str, moment: datetime) -> bool:
    """Whether nobody claimed the start of this release so soon before; then it is claimed, by one of many at once."""

    def claim(row: rows.Row | None) -> dict[str, Any] | None:
        is_claimed = row is not None and row["release"] == release and abs(moment - row["at"]) < _ONE_START
        return None if is_claimed else {"release": release, "at": moment}

    return rows.change(storage.table(TABLE), _START, _START, claim) is not None


def is_stale(resource: str, last_success: datetime, moment: datetime) -> bool:
    """Whether two runs in a row of a poll have brought no success, by its schedule: idle ones note theirs rarely."""
    return times_due(polls(resource), last_success + HEARTBEAT, moment - _SLACK) == 2


def alarm_if_stale(checkpoint: Checkpoint, moment: datetime) -> None:
    """Log the signal of a poll that has not succeeded for long."""
    last = checkpoint.last_success or checkpoint.begin or datetime.fromtimestamp(0, UTC)
    if is_stale(checkpoint.resource, last, moment) and not checkpoint.is_paused(moment):
        seconds = int((moment - last).total_seconds())
        logger.warning("signal poll_stale resource=%s seconds=%d", checkpoint.resource, seconds)


def forbidden_since(found: Iterable[Checkpoint]) -> datetime | None:
    """
    Since when the PBX answers 403 to all that is asked of it; None where it lets something through.

    A list that is polled too rarely to have been asked since does not count, unless it has succeeded since.
    """
    found = list(found)
    since = max((one.forbidden_since for one in found if one.forbidden_since), default=None)
    if since is None or any(_is_let_in(one, since) for one in found if not one.forbidden_since):
        return None
    return since


def _is_let_in(checkpoint: Checkpoint, since: datetime) -> bool:
    """Whether a list that was not refused has shown since that it is let in, or will soon."""
    last = checkpoint.last_success
    return (last is not None and last >= since) or times_due(polls(checkpoint.resource), since, since + _SOON) > 0


def describe_pbx(found: Iterable[Checkpoint]) -> dict[str, Any]:
    """Whether the PBX lets this app in, for people to read."""
    since = forbidden_since(found)
    problem = f"{FORBIDDEN[0].upper()}{FORBIDDEN[1:]}." if since else None
    return {"state": "forbidden" if since else "allowed", "since": _iso(since), "problem": problem}


def describe(checkpoint: Checkpoint, moment: datetime) -> dict[str, Any]:
    """The checkpoint for people to read."""
    paused = checkpoint.is_paused(moment)
    return {
        "resource": checkpoint.resource,
        "state": "paused" if paused else "following" if checkpoint.started else "first reading",
        "cursor": checkpoint.cursor,
        "items": checkpoint.items,
        "unreadable": checkpoint.unreadable,
        "complete": not checkpoint.partial and not checkpoint.left,
        "lagSeconds": checkpoint.lag,
        "lastSuccess": _iso(checkpoint.last_success),
        "lastError": checkpoint.last_error or None,
        "lastSweep": _iso(checkpoint.swept),
        "sweepError": checkpoint.sweep_error or None,
        "pausedUntil": _iso(checkpoint.paused_until) if paused else None,
    }


def _iso(moment: datetime | None) -> str | None:
    return iso(moment) if moment else None


def _columns(checkpoint: Checkpoint) -> dict[str, Any]:
    values = {column: getattr(checkpoint, name) for name, column in _NAMES.items()}
    values |= {column: rows.long(values[column]) for column in _LONG}
    return {column: value for column, value in values.items() if value is not None}


def _checkpoint(row: rows.Row) -> Checkpoint:
    values = {name: rows.value_of(row[column]) for name, column in _NAMES.items() if column in row}
    return Checkpoint(resource=row["RowKey"], row=row, **values)
