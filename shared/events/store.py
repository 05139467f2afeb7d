"""
Tables `events`, one row an event by its id, and `feed`, the same rows newest first.

Who reads the feed of one number or call does not read all of it: beside its place an event has a copy for each number
and for its call, under a keyed hash of that, written in the same transaction.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

from shared.errors import Conflict
from shared.events import parties
from shared.once import once
from shared.storage import rows
from shared.storage.account import reaching_storage
from shared.storage.expiry import IN_BATCH, delete_keys, expire_rows
from shared.times import newest_first

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period
    from shared.storage.rows import Row

TABLE = "events"
PARTITION = "event"
FEED = "feed"
# Copies stand behind the feed itself, whose keys begin with digits.
_COPY, _FEED_END = "n", ":"
# A request looks at so many pages of the table at most; the rest is for the next one.
_PAGES, _PAGE = 4, 1000
# Where the table service says that it stopped looking.
STOPPED = re.compile(r'\{"PartitionKey": "[!-~]{1,200}", "RowKey": (?:null|"[!-~]{1,400}")\}')
# Columns that table `events` has for the processor alone.
_OF_EVENTS = ("message", "done", "PartitionKey", "RowKey")
# What the keys of an event's copies are made of.
_IN_KEYS = ("id", "received", "caller", "callerE164", "destination", "destinationE164", "callID")
# Batches that are deleted at once.
_AT_ONCE = 4
# Repeats that complete the same event at the same time.
_RACES = 32


def insert(storage: Storage, row: Mapping[str, Any], mark: str) -> bool:
    """Make the row of an event, with the mark of the message that has its follow-ups done; True for one of many."""
    return rows.insert(storage.table(TABLE), {**_keys(row["id"]), **row, "message": mark})


def get(storage: Storage, id: str, select: Sequence[str] | None = None) -> Row | None:
    """The row of an event, or None."""
    return rows.get(storage.table(TABLE), PARTITION, id, select)


def update(storage: Storage, id: str, columns: Mapping[str, Any]) -> None:
    """Set columns of an event's row, unless it is gone."""
    rows.update(storage.table(TABLE), {**_keys(id), **columns})


def _keys(id: str) -> dict[str, Any]:
    return {"PartitionKey": PARTITION, "RowKey": id}


def publish(storage: Storage, row: Mapping[str, Any]) -> None:
    """Give an event its place in the feed, by its row of table `events`: one storage operation, harmless twice."""
    _begin(storage)
    _write(storage, row, places(storage, row), [])


def add(storage: Storage, row: Row, by: Callable[[Row], Mapping[str, Any]]) -> Row:
    """
    Add columns to an event's row (`row`, as it is stored), to its place in the feed and to its copies there.

    `by` makes the columns of the row, None for one that goes, and none at all where there is nothing to add; it is
    called again with the newer row where others changed it meanwhile. Returns the row as it is then. Harmless twice,
    and whoever dies in between finds the same to add again. Raises Conflict when others kept changing it.
    """
    written: list[dict[str, Any]] = []
    for _ in range(_RACES):
        columns = by(row)
        if not columns and not written:
            return row
        whole = {name: value for name, value in {**row, **columns}.items() if value is not None}
        now = places(storage, whole)
        left = [keys for keys in (*places(storage, row), *written) if keys not in now]
        _write(storage, whole, now, left)
        # Last, as it says what is there.
        etag = rows.swap(storage.table(TABLE), whole, row.etag) if columns else row.etag
        if etag is not None:
            return rows.Row(whole, etag)
        written += now
        newer = rows.get(storage.table(TABLE), PARTITION, row["RowKey"])
        if newer is None:
            return row
        row = newer
    raise Conflict(f"event {row['RowKey']} kept changing")


def call_party(call_id: int) -> str:
    """A call as that which an event has to do with."""
    return f"call {call_id}"


def copies_of(storage: Storage, party: str) -> str:
    """What the keys of a party's copies begin with; everything, where not all of the feed has copies."""
    return f"{_COPY}{parties.party_hash(storage, party)}-" if parties.covers(storage, FEED) else ""


def places(storage: Storage, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The keys of an event in table `feed`: those of its place first, and of its copies."""
    key = f"{newest_first(row['received'])}-{row['id']}"
    # A number that is none of a telephone network is its own form; withheld ones are nobody's.
    numbers = {row.get(f"{name}E164") or row.get(name) for name in ("caller", "destination")}
    found = {parties.number_party(number, "") for number in numbers} - {parties.number_party("", "")}
    if row.get("callID") is not None:
        found.add(call_party(rows.value_of(row["callID"])))
    copies = [f"{_COPY}{parties.party_hash(storage, party)}-{key}" for party in sorted(found)]
    return [{"PartitionKey": FEED, "RowKey": one} for one in (key, *copies)]


def _write(
    storage: Storage, row: Mapping[str, Any], now: Sequence[dict[str, Any]], left: Sequence[dict[str, Any]] = ()
) -> None:
    entry = {name: value for name, value in row.items() if name not in _OF_EVENTS}
    rows.transact(storage.table(FEED), [("upsert", {**entry, **keys}, {"mode": "replace"}) for keys in now])
    for keys in left:
        rows.delete(storage.table(FEED), FEED, keys["RowKey"])


@once
def _begin(storage: Storage) -> None:
    """Before the first event of all is published, note that all of them will have their copies."""
    if not parties.covers(storage, FEED):
        with reaching_storage():
            found = storage.table(FEED).query_entities(f"PartitionKey eq '{FEED}'", results_per_page=1)
            is_empty = next(iter(found), None) is None
        if is_empty:
            parties.cover(storage, FEED)


def feed_bounds(since: datetime | None, until: datetime | None, begin: str = "") -> list[str]:
    """Conditions for what came in between two times; `begin` is what copies_of gives."""
    low = f"{begin}{newest_first(until)}" if until else begin
    # The hyphen and the id after a position sort below this.
    high = f"{begin}{newest_first(since)}~" if since else f"{begin}~" if begin else _FEED_END
    return [f"PartitionKey eq '{FEED}'", *([f"RowKey ge '{low}'"] if low else []), f"RowKey lt '{high}'"]


def feed_page(
    storage: Storage, conditions: list[str], start: str | None, limit: int, begin: str = ""
) -> tuple[list[Mapping[str, Any]], str | None]:
    """Rows of the feed that meet the conditions, newest first, and where the next part starts: None at the end."""
    stopped = start if start and STOPPED.fullmatch(start) else None
    if start and not stopped:
        conditions = [*conditions, f"RowKey ge '{begin}{start}'"]
    query = storage.table(FEED).query_entities(" and ".join(conditions), results_per_page=min(limit + 1, _PAGE))
    pages: Any = query.by_page(json.loads(stopped) if stopped else None)
    found: list[Mapping[str, Any]] = []
    for _ in range(_PAGES):
        found += next(pages, ())
        if len(found) > limit:
            return found[:limit], str(found[limit]["RowKey"]).removeprefix(begin)
        if not pages.continuation_token:
            return found, None
    return found, json.dumps(pages.continuation_token)


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """
    Delete the events that came in within a period, oldest keys last in the feed and so cheap to find.

    Every event has its place in the feed, which goes last: whoever dies in between finds it again.
    """

    def delete(found: Sequence[Any]) -> None:
        copies = list(chain.from_iterable(places(storage, row)[1:] for row in found))
        parts = [(storage.table(TABLE), [_keys(row["id"]) for row in found])]
        parts += [(storage.table(FEED), copies[start : start + IN_BATCH]) for start in range(0, len(copies), IN_BATCH)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda part: delete_keys(*part), parts))
        delete_keys(storage.table(FEED), found)

    # Less than the end: nothing that came in at that very microsecond.
    query = " and ".join([*feed_bounds(period.first, None), f"RowKey ge '{newest_first(period.last)}~'"])
    return expire_rows(storage.table(FEED), query, allowance, select=_IN_KEYS, delete=delete)
