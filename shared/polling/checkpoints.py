"""Table `checkpoints`: one row for each list that is polled, with its progress."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.settings import polls, schedule
from shared.storage import rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

TABLE = "checkpoints"
FORBIDDEN = (
    "The PBX answers 403 to everything. In its panel, under Integration, check the key's list of IP addresses (this "
    "app's outbound addresses may have changed), the key itself, and the API methods that it may use; polling goes on "
    "by itself within minutes once it is allowed."
)
PARTITION = "checkpoint"
_STEP = "step"
# So late timers and runs may be together.
_SLACK = timedelta(minutes=15)
_SOON = timedelta(minutes=20)
# Names of days and months that are longer than croniter knows.
_LONG_NAMES = re.compile(r"([A-Za-z]{3})[A-Za-z]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """
    The progress of a resource.

    Items that came to be before `begin` are not handed on; None: all are. `started` is False until a first reading is
    complete, and `looked` is when the last thorough one was. `left` are the days that are still to be read; `history`
    is the time before which nothing was read yet, a month at a time or, `by_day`, a day. A page of up to `page` items
    is the last of its list, as far as the PBX has shown. `waiting` is when events are due that a webhook may still
    bring. `items` is how many are stored, `unreadable` how many of a list had no id. `lag` is in seconds, from the
    newest item's own time to its storing. `state` is a poll's own memory. `forbidden_since` is when the PBX began to
    answer 403; before `paused_until` it is not asked.
    """

    resource: str
    begin: datetime | None = None
    started: bool = False
    looked: datetime | None = None
    left: str = ""
    history: datetime | None = None
    by_day: bool = False
    page: int = 0
    waiting: datetime | None = None
    items: int = 0
    unreadable: int = 0
    lag: float | None = None
    state: str = ""
    last_success: datetime | None = None
    last_error: str = ""
    last_error_at: datetime | None = None
    forbidden_since: datetime | None = None
    paused_until: datetime | None = None
    row: rows.Row | None = field(default=None, compare=False, repr=False)

    def is_paused(self, moment: datetime) -> bool:
        """True if the PBX is not asked for the resource at a moment."""
        return self.paused_until is not None and moment < self.paused_until

    @property
    def has_failed(self) -> bool:
        """True if the last run failed."""
        failed = self.last_error_at
        return failed is not None and (self.last_success is None or failed > self.last_success)

    @property
    def days_left(self) -> set[str]:
        """Return the days (`yyyy-mm-dd`, UTC) that are still to be read."""
        return set(self.left.split())


_NAMES = [part.name for part in fields(Checkpoint) if part.name not in ("resource", "row")]


def read(storage: Storage, resource: str) -> Checkpoint | None:
    """Return the resource's checkpoint, or None before its first poll."""
    row = rows.get(storage.table(TABLE), PARTITION, resource)
    return None if row is None else _checkpoint(row)


def read_all(storage: Storage) -> list[Checkpoint]:
    """Return the checkpoints of everything that was polled, by name."""
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}'")
    return [_checkpoint(rows.Row(row, str(row.metadata["etag"]))) for row in found]


def read_steps(storage: Storage) -> dict[str, datetime]:
    """Return when LookAfter's steps were done last, by name."""
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{_STEP}'")
    return {row["RowKey"]: row["at"] for row in found}


def note_step(storage: Storage, name: str, moment: datetime) -> None:
    """Store when a step was done."""
    rows.put(storage.table(TABLE), {"PartitionKey": _STEP, "RowKey": name, "at": moment})


def create(storage: Storage, checkpoint: Checkpoint) -> Checkpoint:
    """Store a first checkpoint; return it, or that of whoever came first."""
    keys = {"PartitionKey": PARTITION, "RowKey": checkpoint.resource}
    rows.insert(storage.table(TABLE), {**keys, **_columns(checkpoint)})
    return read(storage, checkpoint.resource) or checkpoint


def change(storage: Storage, seen: Checkpoint, **changes: Any) -> Checkpoint:
    """Store changes of the checkpoint, and of the newer one where somebody else changed it in between."""

    def columns(row: rows.Row | None) -> dict[str, Any]:
        return _columns(replace(seen if row is None else _checkpoint(row), **changes))

    written = rows.change(storage.table(TABLE), PARTITION, seen.resource, columns, seen.row or "read")
    return seen if written is None else _checkpoint(written)


def is_stale(resource: str, last_success: datetime, moment: datetime) -> bool:
    """
    Return True if two runs in a row of a poll have had no success; False for an unreadable schedule.

    Counted by its own schedule, nights and weekends too: what is due on weekdays alone is not late on a Sunday.
    """
    from croniter import croniter

    try:
        text = _LONG_NAMES.sub(r"\1", schedule(polls(resource)))
        due = croniter(text, moment - _SLACK, second_at_beginning=True, day_or=False)
        _, last_but_one = due.get_prev(datetime), due.get_prev(datetime)
    except (ValueError, KeyError):
        return False
    return bool(last_but_one > last_success)


def alarm_if_stale(checkpoint: Checkpoint, moment: datetime) -> None:
    """Log the signal of a poll that has not succeeded for long."""
    last = checkpoint.last_success or checkpoint.begin or datetime.fromtimestamp(0, UTC)
    if is_stale(checkpoint.resource, last, moment) and not checkpoint.is_paused(moment):
        seconds = int((moment - last).total_seconds())
        logger.warning("signal poll_stale resource=%s seconds=%d", checkpoint.resource, seconds)


def forbidden_since(found: Iterable[Checkpoint]) -> datetime | None:
    """Return since when the PBX answers 403 to everything; None where it lets something through."""
    found = list(found)
    since = max((one.forbidden_since for one in found if one.forbidden_since), default=None)
    others = [one.last_success for one in found if not one.forbidden_since and one.last_success]
    # One that succeeded shortly before is heard of before anybody has to look.
    return None if since is None or any(last >= since - _SOON for last in others) else since


def _columns(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: value for name in _NAMES if (value := getattr(checkpoint, name)) is not None}


def _checkpoint(row: rows.Row) -> Checkpoint:
    return Checkpoint(resource=row["RowKey"], row=row, **{name: row[name] for name in _NAMES if name in row})
