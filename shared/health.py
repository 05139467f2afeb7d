"""Table `health`: one row a day that counts what came by webhook, what was reconciled, and how late things were."""

from __future__ import annotations

import json
import logging
import re
import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import astuple, dataclass, field
from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from shared.errors import BridgeError
from shared.once import once
from shared.storage import rows
from shared.storage.expiry import expire_rows
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period

logger = logging.getLogger(__name__)

TABLE = "health"
PARTITION = "day"
FLUSH_SECONDS = 10.0
_LAST_DAYS = timedelta(days=14)
COUNTS = ("webhooks", "reconciled", "duplicates", "drift")

# Upper edges in seconds; a fixed histogram can be added up across processes and days.
_EDGES = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400)
# Names of fields that are counted one by one; whoever sends numbers as names is not to see them in the status.
_MOST_FIELDS = 100
_FIELD = re.compile(r"[A-Za-z_](?!.*[0-9]{5})[A-Za-z0-9_.-]{0,63}", re.ASCII)
_OTHER = "(other)"


@dataclass(slots=True)
class Silence:
    """What is known of an event type: how many came, when, the longest gap, and how many never came since."""

    count: int = 0
    first: str = ""
    last: str = ""
    longest: float = 0.0
    lost: int = 0

    def add(self, later: Silence) -> None:
        """Put what is known of a later time after this."""
        if later.count:
            gap = (parse_time(later.first) - parse_time(self.last)).total_seconds() if self.last else 0.0
            self.longest = round(max(self.longest, later.longest, gap), 1)
            self.count, self.lost = self.count + later.count, 0
            self.first, self.last = self.first or later.first, max(self.last, later.last)
        self.lost += later.lost


@dataclass(slots=True)
class Tally:
    """Counts of one day that are not in the table yet."""

    counts: Counter[str] = field(default_factory=Counter)
    lateness: list[int] = field(default_factory=lambda: [0] * (len(_EDGES) + 1))
    types: dict[str, Silence] = field(default_factory=dict)
    fields: Counter[str] = field(default_factory=Counter)

    def note(self, event: ReceivedEvent, *, repeat: bool) -> None:
        """Count one event."""
        kind = self.types.setdefault(event.type.name, Silence())
        if event.origin == "webhook":
            self.counts["webhooks"] += 1
            self.counts["duplicates"] += repeat
            self.add(_drift([] if repeat else event.drift))
            kind.add(Silence(1, iso(event.received), iso(event.received)))
            if event.data.moment and not repeat:
                late = max(0.0, (event.received - event.data.moment).total_seconds())
                self.lateness[bisect_left(_EDGES, late)] += 1
        elif event.origin == "reconciled" and not repeat:
            self.counts["reconciled"] += 1
            kind.lost += 1

    def add(self, later: Tally) -> None:
        """Put another tally of the same day after this."""
        self.counts += later.counts
        self.fields += later.fields
        self.lateness = [one + other for one, other in zip(self.lateness, later.lateness, strict=True)]
        for name, kind in later.types.items():
            self.types.setdefault(name, Silence()).add(kind)

    def row(self) -> dict[str, Any]:
        """Its columns."""
        return {
            **{name: self.counts[name] for name in COUNTS},
            "lateness": json.dumps(self.lateness),
            "p50": percentile(self.lateness, 50),
            "p99": percentile(self.lateness, 99),
            "types": json.dumps({name: astuple(kind) for name, kind in self.types.items()}),
            "driftFields": json.dumps(_frequent(self.fields)),
        }


class _Pending:
    """What one process has counted for one storage account and not written."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.days: dict[str, Tally] = {}
        self.timer: threading.Timer | None = None


@once
def _pending(storage: Storage) -> _Pending:
    return _Pending()


def note(storage: Storage, event: ReceivedEvent, repeat: bool) -> None:
    """Count an event that was processed, in memory; the row is written in the background, ten seconds later."""
    _count(storage, event.received, lambda tally: tally.note(event, repeat=repeat))


def drifted(storage: Storage, names: Collection[str]) -> None:
    """Count the fields of an item that was taken in which are unknown or do not fit; in memory, as `note` does."""
    _count(storage, now(), lambda tally: tally.add(_drift(names)))


def missed(storage: Storage, event: str) -> None:
    """Count a webhook that never came and that nothing needs any more: its type may have fallen silent."""
    _count(storage, now(), lambda tally: tally.add(Tally(types={event: Silence(lost=1)})))


def _count(storage: Storage, moment: datetime, count: Callable[[Tally], None]) -> None:
    pending = _pending(storage)
    with pending.lock:
        count(pending.days.setdefault(iso(moment)[:10], Tally()))
        if pending.timer is None:
            pending.timer = threading.Timer(FLUSH_SECONDS, _flush_later, (storage,))
            pending.timer.daemon = True
            pending.timer.start()


def flush(storage: Storage) -> None:
    """Write what was counted; on failure it stays counted, and StorageUnavailable or Conflict is raised."""
    pending = _pending(storage)
    with pending.lock:
        days, pending.days = pending.days, {}
        if pending.timer:
            pending.timer.cancel()
            pending.timer = None
    while days:
        day, tally = days.popitem()
        try:
            _merge(storage, day, tally)
        except BridgeError:
            with pending.lock:
                for name, left in {day: tally, **days}.items():
                    left.add(pending.days.get(name, Tally()))
                    pending.days[name] = left
            raise


def _flush_later(storage: Storage) -> None:
    try:
        flush(storage)
    except BridgeError as error:
        # The counts stay; the next event starts the next try.
        logger.info("counts were not written: %s", error)


def _merge(storage: Storage, day: str, tally: Tally) -> None:
    def add(row: Mapping[str, Any] | None) -> dict[str, Any]:
        merged = _tally(row) if row else Tally()
        merged.add(tally)
        return {**(row or {}), **merged.row()}

    rows.change(storage.table(TABLE), PARTITION, day, add)


def _tally(row: Mapping[str, Any]) -> Tally:
    return Tally(
        counts=Counter({name: row[name] for name in COUNTS}),
        lateness=json.loads(row["lateness"]),
        types={name: Silence(*fields) for name, fields in json.loads(row["types"]).items()},
        fields=Counter(json.loads(row.get("driftFields") or "{}")),
    )


def _drift(names: Collection[str]) -> Tally:
    known = Counter(name if _FIELD.fullmatch(name) else _OTHER for name in names)
    return Tally(counts=Counter(drift=int(bool(names))), fields=known)


def _frequent(fields: Counter[str]) -> dict[str, int]:
    """The most frequent names by themselves, the others together."""
    kept = Counter(dict(fields.most_common(_MOST_FIELDS)))
    kept[_OTHER] += fields.total() - kept.total()
    return +kept


def percentile(histogram: list[int], part: int) -> float | None:
    """The upper edge, in seconds, of the bucket in which that part of a hundred is reached; None while empty."""
    total = sum(histogram)
    reached = zip((*_EDGES, _EDGES[-1]), accumulate(histogram), strict=True)
    return next((float(edge) for edge, count in reached if total and count * 100 >= total * part), None)


def today(storage: Storage, moment: datetime | None = None) -> dict[str, Any]:
    """The day's row for people to read."""
    day = iso(moment or now())[:10]
    row = next((row for row in _days(storage, day) if row["RowKey"] == day), Tally().row())
    late = {name: row.get(name) for name in ("p50", "p99")}
    counts = {name: row[name] for name in COUNTS}
    return {"day": day, **counts, "driftFields": json.loads(row.get("driftFields", "{}")), "latenessSeconds": late}


def silences(storage: Storage, moment: datetime) -> dict[str, Silence]:
    """What is known of each event type from the last two weeks."""
    known: dict[str, Silence] = {}
    for row in _days(storage, iso(moment - _LAST_DAYS)[:10]):
        for name, kind in _tally(row).types.items():
            known.setdefault(name, Silence()).add(kind)
    return known


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """Delete the counts of the days of a period."""
    first = iso(period.first)[:10] if period.first else ""
    query = f"PartitionKey eq '{PARTITION}' and RowKey ge '{first}' and RowKey lt '{iso(period.last)[:10]}'"
    return expire_rows(storage.table(TABLE), query, allowance)


def _days(storage: Storage, first: str) -> list[Mapping[str, Any]]:
    return list(storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}' and RowKey ge '{first}'"))
