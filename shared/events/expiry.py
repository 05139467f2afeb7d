"""Events that are old enough to go: out of tables `events` and `feed`, by the feed's old end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

from shared.events.store import FEED, PARTITION, TABLE, feed_bounds, places
from shared.storage.expiry import IN_BATCH, delete_keys, expire_rows
from shared.times import newest_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period, Row

_AT_ONCE = 4
# What the keys of an event's copies are made of.
_COLUMNS = ("id", "received", "caller", "callerE164", "destination", "destinationE164", "callID")


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """
    Delete the events that came in within a period, oldest keys last in the feed and so cheap to find.

    Every event has its place in the feed, which goes last: whoever dies in between finds it again.
    """

    def delete(found: Sequence[Row]) -> None:
        rows = [{"PartitionKey": PARTITION, "RowKey": row["id"]} for row in found]
        copies = list(chain.from_iterable(places(storage, row)[1:] for row in found))
        parts = [(storage.table(TABLE), rows)]
        parts += [(storage.table(FEED), copies[start : start + IN_BATCH]) for start in range(0, len(copies), IN_BATCH)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda part: delete_keys(*part), parts))
        delete_keys(storage.table(FEED), found)

    # Less than the end: nothing that came in at that very microsecond.
    conditions = [*feed_bounds(period.first, None), f"RowKey ge '{newest_first(period.last)}~'"]
    query = " and ".join(conditions)
    return expire_rows(storage.table(FEED), query, allowance, select=_COLUMNS, delete=delete)
