"""Table `health`: one row a day that counts events by type and origin, and one for each timer that failed."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import BridgeError
from shared.once import once
from shared.storage import rows
from shared.storage.expiry import expire_rows
from shared.times import iso, now

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Period

logger = logging.getLogger(__name__)

TABLE = "health"
PARTITION = "day"
_TIMER = "timer"
_LONGEST_ERROR = 500
FLUSH_SECONDS = 10.0
COUNTS = ("webhooks", "reconciled", "duplicates", "drift")
# A type is silent when at least so many webhooks never came since yesterday, and more than came.
_LOST = 3
# Names of fields that are counted one by one; whoever sends numbers as names is not to see them in the status.
_MOST_FIELDS = 100
_FIELD = re.compile(r"[A-Za-z_](?!.*[0-9]{5})[A-Za-z0-9_.-]{0,63}", re.ASCII)
_OTHER = "(other)"


@dataclass(slots=True)
class Tally:
    """Counts of one day: of all events, of each type's webhooks that came and that never did, and of odd fields."""

    counts: Counter[str] = field(default_factory=Counter)
    came: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add another tally of the same day."""
        for name in self.__slots__:
            getattr(self, name).update(getattr(other, name))

    def columns(self) -> dict[str, Any]:
        """Return the day's columns; of odd fields the most frequent by themselves, the others together."""
        kept = Counter(dict(self.fields.most_common(_MOST_FIELDS)))
        kept[_OTHER] += self.fields.total() - kept.total()
        parts = {"came": self.came, "lost": self.lost, "driftFields": +kept}
        return {name: self.counts[name] for name in COUNTS} | {name: json.dumps(part) for name, part in parts.items()}


class _Pending:
    """Counts of this process that are not written yet, for one storage account."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.days: dict[str, Tally] = {}
        self.timer: threading.Timer | None = None


@once
def _pending(storage: Storage) -> _Pending:
    return _Pending()


def note(storage: Storage, event: ReceivedEvent, repeat: bool) -> None:
    """Count an event that was processed, in memory; the row is written in the background, ten seconds later."""
    tally, name = Tally(), event.type.name
    if event.origin == "webhook":
        tally = _drift([] if repeat else event.drift)
        tally.counts.update(webhooks=1, duplicates=int(repeat))
        tally.came[name] += 1
    elif event.origin == "reconciled" and not repeat:
        tally.counts["reconciled"] += 1
        tally.lost[name] += 1
    _count(storage, event.received, tally)


def drifted(storage: Storage, names: Collection[str]) -> None:
    """Count the fields of an item that are unknown or do not fit; in memory, as `note` does."""
    _count(storage, now(), _drift(names))


def missed(storage: Storage, event: str) -> None:
    """Count a webhook that never came and that nothing needs any more."""
    _count(storage, now(), Tally(lost=Counter([event])))


def flush(storage: Storage) -> None:
    """Write the counts; where that fails they stay, and StorageUnavailable or Conflict is raised."""
    pending = _pending(storage)
    with pending.lock:
        days, pending.days = pending.days, {}
        if pending.timer:
            pending.timer.cancel()
            pending.timer = None
    for day in [*days]:
        try:
            rows.change(storage.table(TABLE), PARTITION, day, _adding(days[day]))
        except BridgeError:
            with pending.lock:
                for left, tally in days.items():
                    pending.days.setdefault(left, Tally()).add(tally)
            raise
        del days[day]


def days(storage: Storage, count: int) -> dict[str, Tally]:
    """Return the counts of each of the last days that has some, oldest first."""
    query = f"PartitionKey eq '{PARTITION}' and RowKey ge '{_day(now() - timedelta(days=count - 1))}'"
    return {row["RowKey"]: _tally(row) for row in storage.table(TABLE).query_entities(query)}


def of_day(found: Mapping[str, Tally], moment: datetime) -> dict[str, Any]:
    """Return the counts of a moment's day for people to read."""
    tally = found.get(_day(moment), Tally())
    return {"day": _day(moment), **{name: tally.counts[name] for name in COUNTS}, "driftFields": dict(tally.fields)}


def silent(found: Mapping[str, Tally]) -> dict[str, int]:
    """Return the types of whose webhooks most never came since yesterday, with how many."""
    total, yesterday = Tally(), _day(now() - timedelta(days=1))
    for day, tally in found.items():
        if day >= yesterday:
            total.add(tally)
    return {name: lost for name, lost in total.lost.items() if lost >= _LOST and lost > total.came[name]}


@contextmanager
def watched(storage: Storage, timer: str) -> Iterator[None]:
    """Keep the failure of a timer's run for the status until a run of it succeeds."""
    table, well = storage.table(TABLE), _well(storage)
    try:
        yield
    except Exception as error:
        well.discard(timer)
        said = str(error)[:_LONGEST_ERROR] if isinstance(error, BridgeError) else type(error).__name__
        with suppress(BridgeError):
            rows.put(table, {"PartitionKey": _TIMER, "RowKey": timer, "at": now(), "error": said})
        raise
    if timer not in well:
        rows.delete(table, _TIMER, timer)
        well.add(timer)


@once
def _well(storage: Storage) -> set[str]:
    """Return the timers whose last run in this process succeeded."""
    return set()


def failed_timers(storage: Storage) -> list[dict[str, str]]:
    """Return the timers whose last run failed, with when and why."""
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{_TIMER}'")
    return [{"timer": row["RowKey"], "at": iso(row["at"]), "error": row["error"]} for row in found]


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the counts of the days of a period."""
    first = iso(period.first)[:10] if period.first else ""
    query = f"PartitionKey eq '{PARTITION}' and RowKey ge '{first}' and RowKey lt '{iso(period.last)[:10]}'"
    return expire_rows(storage.table(TABLE), query, allowance)


def _day(moment: datetime) -> str:
    return iso(moment)[:10]


def _count(storage: Storage, moment: datetime, tally: Tally) -> None:
    pending = _pending(storage)
    with pending.lock:
        pending.days.setdefault(iso(moment)[:10], Tally()).add(tally)
        if pending.timer is None:
            pending.timer = threading.Timer(FLUSH_SECONDS, _flush_later, (storage,))
            pending.timer.daemon = True
            pending.timer.start()


def _flush_later(storage: Storage) -> None:
    try:
        flush(storage)
    except BridgeError as error:
        # The counts stay; the next event starts the next try.
        logger.info("counts were not written: %s", error)


def _adding(tally: Tally) -> Callable[[Mapping[str, Any] | None], dict[str, Any]]:
    def add(row: Mapping[str, Any] | None) -> dict[str, Any]:
        merged = _tally(row or {})
        merged.add(tally)
        return merged.columns()

    return add


def _tally(row: Mapping[str, Any]) -> Tally:
    parts = [Counter(json.loads(row.get(name, "{}"))) for name in ("came", "lost", "driftFields")]
    return Tally(Counter({name: row.get(name, 0) for name in COUNTS}), *parts)


def _drift(names: Collection[str]) -> Tally:
    known = Counter(name if _FIELD.fullmatch(name) else _OTHER for name in names)
    return Tally(counts=Counter(drift=int(bool(names))), fields=known)


def is_reachable(storage: Storage) -> bool:
    """Return True once storage has answered a read; raises StorageUnavailable."""
    rows.get(storage.table(TABLE), PARTITION, "none", retry_total=0)
    return True
