"""Deletes old history, table by table, and exports or drops a month of it."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shared import audit, health, people
from shared.api.calls import event_item
from shared.api.envelopes import continuation as sealed
from shared.api.envelopes import start_of
from shared.bridge import Bridge
from shared.calls import dials, lost_callers
from shared.calls import store as calls
from shared.deliveries import outbox as deliveries
from shared.errors import Invalid
from shared.events import store as events
from shared.items import store as items
from shared.media import blobs
from shared.media.blobs import MEDIA
from shared.privacy import jobs
from shared.privacy.holdings import plain
from shared.storage.account import Storage
from shared.storage.messages import expire_dead_letters
from shared.storage.rows import Allowance, Period
from shared.times import iso, months_before, now
from shared.values import encode

logger = logging.getLogger(__name__)

# For a run of the timer, which the host allows to take longer.
RUN_SECONDS = 600.0
_MONTHS = re.compile(r"[1-9][0-9]{0,2}|1[01][0-9]{2}|1200")
_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])")
# The parts of an exported month, in order (audio by its container), and the lines of an answer.
_PARTS, _LINES = ("event", "call", *(media.container for media in MEDIA), ""), 500

# The tables with history, and the function that deletes a period of each. Rows without a date (contacts, groups, boxes,
# prompts, endpoints, subscriptions, checkpoints, webhooks, the budget) stay. Blobs are deleted by rules of the storage
# account.
HISTORY: tuple[tuple[str, Callable[[Storage, Period, Allowance], int]], ...] = (
    ("events", events.expire),
    ("calls", calls.expire),
    ("numbers", people.expire),
    ("lostcallers", lost_callers.expire),
    ("items", items.expire),
    ("deliveries", deliveries.expire),
    ("dials", dials.expire),
    ("media", blobs.expire),
    ("deadletters", expire_dead_letters),
    ("days", health.expire),
    ("audit", audit.expire),
    ("privacy", jobs.expire),
)


def apply_retention(
    bridge: Bridge,
    *,
    dry: bool = False,
    seconds: float = RUN_SECONDS,
    at: datetime | None = None,
    months: str | None = None,
) -> dict[str, Any]:
    """
    Delete history older than RETENTION_MONTHS, for up to `seconds`; the next run goes on.

    Concurrent runs are harmless. A `dry` run only counts, and may be for other `months`. Exports of people are deleted
    after a week, whatever the setting. Raises Invalid, StorageUnavailable and Conflict.
    """
    if months is not None and not dry:
        raise Invalid({"months": "allowed with dry_run=true only; to delete, set RETENTION_MONTHS"})
    if months is not None and not _MONTHS.fullmatch(months):
        raise Invalid({"months": "a whole number from 1 to 1200 is expected"})
    if not dry:
        jobs.delete_old_exports(bridge.storage)
    wanted = int(months or bridge.settings.retention_months)
    if not wanted:
        return {"before": None, "dryRun": dry, "complete": True, "rows": {}}
    last = months_before(at or now(), wanted)
    report = _expire(bridge.storage, Period(None, last), dry=dry, seconds=seconds)
    logger.info("retention before %s: %s", iso(last), json.dumps(report["rows"]))
    return report


def _expire(storage: Storage, period: Period, *, dry: bool, seconds: float) -> dict[str, Any]:
    """Delete or count the history of a period, and return the rows by table and if they are `complete`."""
    allowance = Allowance(time.monotonic() + seconds, dry)
    counts = {name: delete(storage, period, allowance) for name, delete in HISTORY}
    return {"before": iso(period.last), "dryRun": dry, "complete": allowance.complete, "rows": counts}


def drop(bridge: Bridge, month: str, *, dry: bool, seconds: float = RUN_SECONDS) -> dict[str, Any]:
    """
    Delete the rows of a past month, as retention does; to be called again until `complete`.

    Items of that month that the PBX still lists are not stored again. Audio stays, until a rule of the storage account
    or a person deletes it. Raises Invalid.
    """
    period = period_of(month)
    if period.last > now():
        raise Invalid({"month": "a month that is over is expected"})
    if not dry:
        # First, so that a poll that runs meanwhile stores nothing of it.
        people.drop_month(bridge.storage, month)
    return _expire(bridge.storage, period, dry=dry, seconds=seconds)


def period_of(month: str) -> Period:
    """Return the month of a text such as 2026-01; raises Invalid."""
    if not _MONTH.fullmatch(month) or month < "1970" or month > "9998":
        raise Invalid({"month": "a month is expected, such as 2026-01"})
    first = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
    return Period(first, (first + timedelta(days=31)).replace(day=1))


def export(storage: Storage, month: str, continuation: str | None = None) -> tuple[bytes, str | None]:
    """
    Return a part of a month as JSON Lines, and the continuation of the next part, None after the last.

    The order is: events of the month (`{"kind": "event", …}`, as in the feed, newest first), calls that began in it
    (`"call"`: their row of table `calls`), and the names of its audio (`"audio"`: container, blob). Raises Invalid.
    """
    period, scope = period_of(month), f"ExportMonth {month}"
    kind, _, after = (start_of(storage, scope, continuation) or f"{_PARTS[0]} ").partition(" ")
    rows: Sequence[Mapping[str, Any]]
    if kind == "event":
        rows, follows = events.feed_page(storage, _LINES, start=after or None, where=period.condition("began"))
        lines = [event_item(storage, row) for row in rows]
    elif kind == "call":
        rows, follows = calls.newest(storage, limit=_LINES, first=period.first, last=period.last, start=after)
        lines = [plain(row) for row in rows]
    else:
        begin = f"{month.replace('-', '/')}/"
        listed = storage.container(kind).list_blob_names(name_starts_with=begin, results_per_page=_LINES)
        pages: Any = listed.by_page(after or None)
        lines = [{"container": kind, "blob": name} for name in next(pages, ())]
        follows = pages.continuation_token
    name = kind if kind in ("event", "call") else "audio"
    body = b"".join(encode({"kind": name, **line}) + b"\n" for line in lines)
    following = kind if follows else _PARTS[_PARTS.index(kind) + 1]
    return body, sealed(storage, scope, f"{following} {follows or ''}" if following else None)
