"""Retention: what history there is, table by table, and how it goes once it is old enough."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import health
from shared.api import dial
from shared.calls import expiry as calls
from shared.deliveries import expiry as deliveries
from shared.events import parties
from shared.events import store as events
from shared.items import intake as items
from shared.media import deletions
from shared.storage import dead_letters
from shared.storage.account import reaching_storage
from shared.storage.expiry import Allowance, Expired, Period, note_progress, progress
from shared.times import iso, months_before, now

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

# A run of the timer; the host gives it longer.
RUN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class History:
    """A row: something that grows with what happens, and how its part of a period is deleted."""

    name: str
    expire: Callable[[Storage, Period, Allowance], Expired]


# Not here: what is current (contacts, groups, boxes, prompts, endpoints, subscriptions, checkpoints, webhooks, the
# budget), and blobs, which go by rules of the storage account.
HISTORY: tuple[History, ...] = (
    History("events", events.expire),
    History("calls", calls.expire),
    History("parties", parties.expire),
    History("cases", calls.expire_cases),
    History("items", items.expire),
    History("deliveries", deliveries.expire),
    History("dials", dial.expire),
    History("media", deletions.expire),
    History("deadletters", dead_letters.expire),
    History("days", health.expire),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to: rows by table, and whether nothing of the period is left."""

    last: datetime | None
    dry: bool
    found: dict[str, Expired]

    @property
    def complete(self) -> bool:
        """Whether all is done, or counted."""
        return all(one.complete for one in self.found.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "before": iso(self.last) if self.last else None,
            "dryRun": self.dry,
            "complete": self.complete,
            "rows": {name: one.rows for name, one in self.found.items()},
        }


def cut(months: int, moment: datetime) -> datetime | None:
    """Before when history is old enough to go; None where it is kept for ever."""
    return months_before(moment, months) if months else None


def apply_retention(
    bridge: Bridge, *, dry: bool = False, seconds: float = RUN_SECONDS, at: datetime | None = None
) -> Report:
    """
    Delete what is older than RETENTION_MONTHS, for so many seconds; the next run goes on where this one ended.

    Two at once do no harm. With `dry` it is only counted. Raises StorageUnavailable and Conflict.
    """
    last = cut(bridge.settings.retention_months, at or now())
    if last is None:
        return Report(None, dry, {})
    report = expire(bridge.storage, Period(None, last), dry=dry, seconds=seconds)
    logger.info("retention before %s: %s", iso(last), json.dumps(report.to_dict()["rows"]))
    return report


def expire(storage: Storage, period: Period, *, dry: bool, seconds: float) -> Report:
    """Delete or count the history of a period, each table in turn."""
    until, found = time.monotonic() + seconds, dict[str, Expired]()
    name = iso(period.first)[:7] if period.first else "all"
    with reaching_storage():
        allowance = Allowance(until, dry, {} if dry else progress(storage, name))
        before = dict(allowance.after)
        try:
            for row in HISTORY:
                found[row.name] = row.expire(storage, period, allowance)
        finally:
            if not dry and allowance.after != before:
                note_progress(storage, name, allowance.after)
    return Report(period.last, dry, found)
