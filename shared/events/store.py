"""Tables `events`, one row an event by its id, and `feed`, the same rows newest first."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from shared.storage import rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage

TABLE = "events"
PARTITION = "event"
FEED = "feed"
_LAST_MICROSECOND = 10**16
# A request looks at so many pages of the table at most; the rest is for the next one.
_PAGES, _PAGE = 4, 1000
# Where the table service says that it stopped looking.
STOPPED = re.compile(r'\{"PartitionKey": "[!-~]{1,200}", "RowKey": (?:null|"[!-~]{1,400}")\}')


def add(storage: Storage, event: ReceivedEvent, row: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    """Add columns to an event's row and to its entry of the feed."""
    rows.update(storage.table(TABLE), {"PartitionKey": PARTITION, "RowKey": event.id, **columns})
    entry = {"PartitionKey": FEED, "RowKey": f"{feed_position(row['received'])}-{event.id}"}
    rows.update(storage.table(FEED), {**entry, **columns})


def feed_position(moment: datetime) -> str:
    """How the keys of what came in at a time begin in table `feed`: the newer, the smaller, and all as long."""
    microseconds = int(moment.timestamp() * 1_000_000)
    return f"{_LAST_MICROSECOND - min(max(microseconds, 1), _LAST_MICROSECOND):016d}"


def between(
    storage: Storage, since: datetime, until: datetime, *, after: str | None, limit: int
) -> tuple[list[Mapping[str, Any]], str | None]:
    """Rows that came in between two times, newest first; and what `after` has to be for the next part, if any."""
    return feed_page(storage, feed_bounds(since, until), after, limit)


def feed_bounds(since: datetime | None, until: datetime | None) -> list[str]:
    bounds = [f"PartitionKey eq '{FEED}'"]
    bounds += [f"RowKey ge '{feed_position(until)}'"] if until else []
    # The hyphen and the id after a position sort below this.
    return bounds + ([f"RowKey lt '{feed_position(since)}~'"] if since else [])


def feed_page(
    storage: Storage, conditions: list[str], start: str | None, limit: int
) -> tuple[list[Mapping[str, Any]], str | None]:
    """Rows of the feed that meet the conditions, newest first, and where the next part starts: None at the end."""
    stopped = start if start and STOPPED.fullmatch(start) else None
    if start and not stopped:
        conditions = [*conditions, f"RowKey ge '{start}'"]
    query = storage.table(FEED).query_entities(" and ".join(conditions), results_per_page=min(limit + 1, _PAGE))
    pages: Any = query.by_page(json.loads(stopped) if stopped else None)
    found: list[Mapping[str, Any]] = []
    for _ in range(_PAGES):
        found += next(pages, ())
        if len(found) > limit:
            return found[:limit], str(found[limit]["RowKey"])
        if not pages.continuation_token:
            return found, None
    return found, json.dumps(pages.continuation_token)
