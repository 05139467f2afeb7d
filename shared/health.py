"""Table `health`: one row a day with counts of events by type and origin, and one for each timer that failed."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from shared.errors import BridgeError
from shared.events.event import ReceivedEvent
from shared.storage import rows
from shared.storage.account import Storage, once
from shared.storage.rows import Allowance, Period, expire_rows
from shared.times import iso, now

# Counts by name: one of COUNTS, or CAME, LOST or FIELD followed by the name of an event or a field.
Counts = Counter[str]

logger = logging.getLogger(__name__)

TABLE = "health"
PARTITION = "day"
COUNTS = ("webhooks", "reconciled", "duplicates", "drift")
CAME, LOST, FIELD = "came", "lost", "field"
FLUSH_SECONDS = 10.0
_TIMER = "timer"
_LONGEST_ERROR = 500
# An event is silent if at least so many of its webhooks, and more than half, were lost since yesterday.
_MANY_LOST = 3
# The most fields that are counted by name. A name with five digits may be a phone number, and is not shown.
_MOST_FIELDS = 100
_FIELD_NAME = re.compile(r"[A-Za-z_](?!.*[0-9]{5})[A-Za-z0-9_.-]{0,63}", re.ASCII)
_OTHER = "(other)"


class _Pending:
    """Counts of this process that are not written yet, for one storage account."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.days: dict[str, Counts] = defaultdict(Counter)
        self.is_timed = False


@once
def _pending(storage: Storage) -> _Pending:
    return _Pending()


def count_event(storage: Storage, event: ReceivedEvent, repeat: bool) -> None:
    """Count an event that was processed, in memory; the row is written in the background ten seconds later."""
    name = event.type.name
    if event.origin == "webhook":
        counts = Counter({"webhooks": 1, "duplicates": int(repeat), f"{CAME} {name}": 1})
        _count(storage, event.received, counts + _drift([] if repeat else event.drift))
    elif event.origin == "reconciled" and not repeat:
        _count(storage, event.received, Counter({"reconciled": 1, f"{LOST} {name}": 1}))


def drifted(storage: Storage, names: Collection[str]) -> None:
    """Count the fields of an item that are unknown or do not fit, in memory as `count_event` does."""
    _count(storage, now(), _drift(names))


def missed(storage: Storage, event: str) -> None:
    """Count a webhook that was lost and needs no replacement."""
    _count(storage, now(), Counter([f"{LOST} {event}"]))


def flush(storage: Storage) -> None:
    """Write the counts; if that fails, keep them and raise StorageUnavailable or Conflict."""
    pending = _pending(storage)
    with pending.lock:
        days, pending.days, pending.is_timed = pending.days, defaultdict(Counter), False
    for day in [*days]:
        try:
            rows.change(storage.table(TABLE), PARTITION, day, partial(_added, days[day]))
        except BridgeError:
            with pending.lock:
                for left, counts in days.items():
                    pending.days[left] += counts
            raise
        del days[day]


def days(storage: Storage, count: int) -> dict[str, Counts]:
    """Return the counts of each of the last days that has some, oldest first."""
    query = f"PartitionKey eq '{PARTITION}' and RowKey ge '{_day(now() - timedelta(days=count - 1))}'"
    return {row["RowKey"]: _counts(row) for row in storage.table(TABLE).query_entities(query)}


def of_kind(counts: Counts, kind: str) -> Counts:
    """Return the counts of a kind, by the name behind it."""
    return Counter({name.partition(" ")[2]: count for name, count in counts.items() if name.startswith(f"{kind} ")})


def of_day(found: Mapping[str, Counts], moment: datetime) -> dict[str, Any]:
    """Return the counts of a moment's day for people to read."""
    counts: Counts = found.get(_day(moment), Counter())
    return {"day": _day(moment), **{name: counts[name] for name in COUNTS}, "driftFields": dict(of_kind(counts, FIELD))}


def silent(found: Mapping[str, Counts]) -> dict[str, int]:
    """Return the number of lost webhooks since yesterday, for each silent event."""
    yesterday, total = _day(now() - timedelta(days=1)), Counter[str]()
    for day, counts in found.items():
        if day >= yesterday:
            total += counts
    came, lost = of_kind(total, CAME), of_kind(total, LOST)
    return {name: count for name, count in lost.items() if count >= _MANY_LOST and count > came[name]}


@contextmanager
def watched(storage: Storage, timer: str) -> Iterator[None]:
    """Store the failure of a timer's run, which the status shows until a run succeeds."""
    try:
        yield
    except Exception as error:
        words = f": {error}"[:_LONGEST_ERROR] if isinstance(error, BridgeError) else ""
        row = {"PartitionKey": _TIMER, "RowKey": timer, "at": now(), "error": f"{type(error).__name__}{words}"}
        with suppress(BridgeError):
            rows.put(storage.table(TABLE), row)
        raise
    rows.delete(storage.table(TABLE), _TIMER, timer)


def failed_timers(storage: Storage) -> list[dict[str, str]]:
    """Return the timers whose last run failed, with when and why."""
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{_TIMER}'")
    return [{"timer": row["RowKey"], "at": iso(row["at"]), "error": row["error"]} for row in found]


def check(storage: Storage) -> None:
    """Return once the tables, and the queue of webhooks, have answered; raise StorageUnavailable if one does not."""
    rows.get(storage.table(TABLE), PARTITION, "none")
    storage.queue("events").get_queue_properties()


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the counts of the days of a period."""
    first = _day(period.first) if period.first else ""
    query = f"PartitionKey eq '{PARTITION}' and RowKey ge '{first}' and RowKey lt '{_day(period.last)}'"
    return expire_rows(storage.table(TABLE), query, allowance)


def _day(moment: datetime) -> str:
    return iso(moment)[:10]


def _counts(row: Mapping[str, Any] | None) -> Counts:
    return Counter(json.loads(row["counts"])) if row else Counter()


def _drift(names: Collection[str]) -> Counts:
    fields = (name if _FIELD_NAME.fullmatch(name) else _OTHER for name in names)
    return Counter({"drift": int(bool(names))}) + Counter(f"{FIELD} {name}" for name in fields)


def _added(new: Counts, row: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a row's columns with new counts; the rarest fields share one count, so that all fit into the row."""
    counts = _counts(row) + new
    for name, count in of_kind(counts, FIELD).most_common()[_MOST_FIELDS:]:
        del counts[f"{FIELD} {name}"]
        counts[f"{FIELD} {_OTHER}"] += count
    return {"counts": json.dumps(counts)}


def _count(storage: Storage, moment: datetime, counts: Counts) -> None:
    pending = _pending(storage)
    with pending.lock:
        pending.days[_day(moment)] += counts
        if not pending.is_timed:
            timer = threading.Timer(FLUSH_SECONDS, _flush_later, (storage,))
            timer.daemon = pending.is_timed = True
            timer.start()


def _flush_later(storage: Storage) -> None:
    try:
        flush(storage)
    except BridgeError as error:
        # The counts stay; the next event starts the next try.
        logger.info("counts were not written: %s", error)
