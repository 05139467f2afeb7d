"""What history there is, table by table: how it goes once it is old, and a month of it handed over or dropped."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared import audit, health, people
from shared.api.feed import as_item
from shared.calls import dials, lost_callers
from shared.calls import store as calls
from shared.deliveries import outbox as deliveries
from shared.errors import Invalid
from shared.events import store as events
from shared.items import store as items
from shared.json_bodies import encode
from shared.media import deletions
from shared.media.table import MEDIA
from shared.privacy import jobs
from shared.storage import dead_letters
from shared.storage.account import reaching_storage
from shared.storage.expiry import Allowance, Expired, Period, note_dropped, note_progress, progress
from shared.storage.rows import value_of
from shared.times import iso, months_before, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

# A run of the timer; the host gives it longer.
RUN_SECONDS = 600.0
_MONTHS = re.compile(r"[1-9][0-9]{0,2}|1[01][0-9]{2}|1200")
_MONTH = re.compile(r"(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])")
_PART = 500
_WRONG = Invalid({"continuation": "what the last part's header said is expected"})

# What grows with what happens, and how its part of a period is deleted. Not here: what is current (contacts, groups,
# boxes, prompts, endpoints, subscriptions, checkpoints, webhooks, the budget), and blobs, which go by rules of the
# storage account.
HISTORY: tuple[tuple[str, Callable[[Storage, Period, Allowance], Expired]], ...] = (
    ("events", events.expire),
    ("calls", calls.expire),
    ("numbers", people.expire),
    ("lostcallers", lost_callers.expire),
    ("items", items.expire),
    ("deliveries", deliveries.expire),
    ("dials", dials.expire),
    ("media", deletions.expire),
    ("deadletters", dead_letters.expire),
    ("days", health.expire),
    ("audit", audit.expire),
    ("privacy", jobs.expire),
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


def months_of(text: str, *, dry: bool) -> int:
    """Return a number of months to try out, which only a dry run may have; raises Invalid."""
    if not dry:
        raise Invalid({"months": "it goes with dry_run=true only: to delete, set RETENTION_MONTHS"})
    if not _MONTHS.fullmatch(text):
        raise Invalid({"months": "a whole number from 1 to 1200 is expected"})
    return int(text)


def apply_retention(
    bridge: Bridge,
    *,
    dry: bool = False,
    seconds: float = RUN_SECONDS,
    at: datetime | None = None,
    months: int | None = None,
) -> Report:
    """
    Delete history older than RETENTION_MONTHS, for so many seconds; the next run goes on where this one ended.

    Two at once do no harm. A `dry` run only counts, also for other `months`. Exports of people go after a week,
    whatever the setting. Raises StorageUnavailable and Conflict.
    """
    if not dry:
        jobs.delete_old_exports(bridge.storage)
    last = cut(bridge.settings.retention_months if months is None else months, at or now())
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
            for table, delete in HISTORY:
                found[table] = delete(storage, period, allowance)
        finally:
            if not dry and allowance.after != before:
                note_progress(storage, name, allowance.after)
    return Report(period.last, dry, found)


def export(storage: Storage, month: str, continuation: str = "") -> tuple[bytes, str]:
    """
    A part of a month as JSON Lines, and how to ask for the next one; empty after the last.

    First come the events that came in that month (`{"kind": "event", …}`, as in the feed, newest first), then the calls
    that began in it (`"call"`: their row of table `calls`), then the names of its audio (`"audio"`: container, blob).

    Raises Invalid.
    """
    period = period_of(month)
    kind, _, after = (continuation or "event ").partition(" ")
    parts = {"event": _events, "call": _calls, "audio": _audio}
    if kind not in parts:
        raise _WRONG
    with reaching_storage():
        lines, follows = parts[kind](storage, period, after)
        body = b"".join(encode({"kind": kind, **line}) + b"\n" for line in lines)
    if follows is not None:
        return body, f"{kind} {follows}"
    kinds = list(parts)
    return body, f"{kinds[kinds.index(kind) + 1]} " if kind != kinds[-1] else ""


def drop(bridge: Bridge, month: str, *, dry: bool, seconds: float = RUN_SECONDS) -> Report:
    """
    Delete the rows of one month that is over, as retention does; called again until `complete`.

    What the PBX's lists still have of it is not taken in again. Its audio stays: rules of the storage account and
    whoever may delete blobs see to that. Raises Invalid.
    """
    period = period_of(month)
    if period.last > now():
        raise Invalid({"month": "a month that is over is expected"})
    if not dry:
        # First: a sweep that runs meanwhile brings nothing of it back.
        with reaching_storage():
            note_dropped(bridge.storage, month)
    return expire(bridge.storage, period, dry=dry, seconds=seconds)


def period_of(month: str) -> Period:
    """The month that `yyyy-mm` means; raises Invalid."""
    if not _MONTH.fullmatch(month) or month < "1970" or month > "9998":
        raise Invalid({"month": "a month is expected, such as 2026-01"})
    first = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
    return Period(first, (first + timedelta(days=31)).replace(day=1))


def _events(storage: Storage, period: Period, after: str) -> tuple[Iterator[dict[str, Any]], str | None]:
    conditions = [*events.feed_bounds(None, None), period.condition("began")]
    found, follows = events.feed_page(storage, conditions, _checked(after), _PART)
    return (as_item(storage, row) for row in found), follows


def _calls(storage: Storage, period: Period, after: str) -> tuple[Iterator[dict[str, Any]], str | None]:
    if after and not after.isdecimal():
        raise _WRONG
    found, follows = calls.newest(storage, limit=_PART, first=period.first, last=period.last, start=after)
    return map(_call, found), follows or None


def _call(row: Mapping[str, Any]) -> dict[str, Any]:
    hidden = ("PartitionKey", "RowKey", "writer")
    shown = {name: value_of(one) for name, one in row.items() if name not in hidden and not isinstance(one, bytes)}
    return {name: iso(one) if isinstance(one, datetime) else one for name, one in shown.items()}


def _audio(storage: Storage, period: Period, after: str) -> tuple[Iterator[dict[str, Any]], str | None]:
    first, names = period.first or period.last, [media.container for media in MEDIA]
    container, _, token = (after or names[0]).partition(" ")
    if container not in names:
        raise _WRONG
    listed = storage.container(container).list_blob_names(name_starts_with=f"{first:%Y/%m}/", results_per_page=_PART)
    pages: Any = listed.by_page(token or None)
    found = [{"container": container, "blob": name} for name in next(pages, ())]
    if pages.continuation_token:
        return iter(found), f"{container} {pages.continuation_token}"
    return iter(found), next(iter(names[names.index(container) + 1 :]), None)


def _checked(after: str) -> str | None:
    _token(after)
    return after or None


def _token(after: str) -> dict[str, Any] | None:
    """Where the table service stopped."""
    try:
        token: dict[str, Any] | None = json.loads(after) if after else None
    except ValueError:
        raise _WRONG from None
    if token is not None and not (
        isinstance(token, dict)
        and token.keys() == {"PartitionKey", "RowKey"}
        and all(isinstance(one, str | None) for one in token.values())
    ):
        raise _WRONG
    return token
