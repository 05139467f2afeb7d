"""Table `resources`: every item that was polled, the newest of each resource, and the order in which they arrived."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared.identifiers import LARGEST_ID
from shared.items.head import ARRIVAL, TABLE, heads
from shared.storage import rows
from shared.storage.messages import get_payload
from shared.storage.rows import row_key
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from shared.items.head import Head
    from shared.storage.account import Storage

# An arrival row holds at most so many items: the last two digits of a state count them.
ARRIVALS_IN_ROW = 100
_PAGE = 1000
# Rows of a window that are read before it is taken to be too wide.
_TOO_MANY = 4 * _PAGE
_FEW = 3
_KNOWN = ("hash", "revision", "removed", "lastSeen", "missed", "missing", "asked")

Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """
    What a stored row says of its item: content hash, changes so far, whether it is gone, and when it was seen.

    `missed` counts the listings in a row that lacked it, from `missing` on; `asked` is when the PBX, asked for it by
    id meanwhile, did not say that it is gone.
    """

    hash: str
    revision: int = 0
    removed: bool = False
    seen: str = ""
    missed: int = 0
    missing: datetime | None = None
    asked: datetime | None = None


def get(storage: Storage, resource: str, item_id: int) -> Item | None:
    """The item as the PBX sent it last, or None where it is unknown or gone."""
    row = rows.get(storage.table(TABLE), resource, row_key(item_id))
    return None if row is None or row.get("removed") else _item(storage, row)


def stored(storage: Storage, resource: str, item_id: int) -> Item | None:
    """The item as it was seen last, also when it is gone."""
    row = rows.get(storage.table(TABLE), resource, row_key(item_id))
    return None if row is None else _item(storage, row)


def known(storage: Storage, resource: str, ids: Collection[int] | None = None) -> dict[int, Known]:
    """What is stored of these items, or of all of the resource's; ids that are not stored are left out."""
    if ids is not None and not ids:
        return {}
    low, high = (0, LARGEST_ID) if ids is None else (min(ids), max(ids))
    found = _rows(storage, resource, low, high + 1, _KNOWN)
    wanted = None if ids is None else set(ids)
    return {number: _known(row) for number, row in found if wanted is None or number in wanted}


def _known(row: Mapping[str, Any]) -> Known:
    seen, missed, asked = row.get("lastSeen"), row.get("missed", 0), row.get("asked")
    missing = row.get("missing") if missed else None
    return Known(
        hash=row["hash"],
        revision=row.get("revision", 0),
        removed=bool(row.get("removed")),
        seen=iso(seen) if seen else "",
        missed=missed,
        missing=missing,
        asked=asked if missing and asked and asked >= missing else None,
    )


def query(
    storage: Storage, resource: str, *, below: int | None = None, above: int = -1, limit: int = _PAGE
) -> list[Item]:
    """
    The newest items, newest first, with ids less than `below` and greater than `above`.

    The first 200 or so come from the head row. A table cannot be read backwards: further ones come from windows
    of ids that go down from `below`, as wide as the spread of the stored ids suggests.
    """
    start = heads(storage).recent(resource)
    top = start.largest + 1 if below is None else min(below, start.largest + 1)
    numbers = sorted((number for number in start.newest if above < number < top), reverse=True)
    found = [json.loads(start.newest[number]) for number in numbers[:limit]]
    bottom = max(above + 1, start.smallest)
    rest = _downwards(storage, resource, range(bottom, min(top, start.floor)), limit - len(found), start)
    return found + rest


def _downwards(storage: Storage, resource: str, span: range, limit: int, start: Head) -> list[Item]:
    bottom, top, found = span.start, span.stop, list[Item]()
    width = max(1, 2 * (start.largest - start.smallest + 1) * max(limit, 1) // max(start.count, 1))
    while len(found) < limit and top > bottom:
        low = max(bottom, top - width)
        pairs = list(islice(_rows(storage, resource, low, top), _TOO_MANY + limit + 1))
        if len(pairs) > _TOO_MANY + limit and width > 1:
            width = max(1, min(width, top - low) // 8)
            continue
        live = [row for _, row in reversed(pairs) if not row.get("removed")]
        found += [_item(storage, row) for row in live[: limit - len(found)]]
        top, width = low, width * 4
    return found


def upwards(storage: Storage, resource: str, *, below: int, above: int) -> Iterator[Item]:
    """The items with ids less than `below` and greater than `above`, smallest first, read as they are asked for."""
    start = heads(storage).recent(resource)
    top = min(below, start.largest + 1)
    for _, row in _rows(storage, resource, above + 1, min(top, start.floor)) if above + 1 < start.floor else ():
        if not row.get("removed"):
            yield _item(storage, row)
    for number in sorted(number for number in start.newest if above < number < top):
        yield json.loads(start.newest[number])


def present(storage: Storage, resource: str, *, recent: bool = False) -> str:
    """The state after which everything counts as arriving from now on, or from at most a second ago (`recent`)."""
    head = heads(storage).recent(resource) if recent else heads(storage).read(resource)
    return str(head.sequence * ARRIVALS_IN_ROW + ARRIVALS_IN_ROW - 1)


def arrived_after(storage: Storage, resource: str, state: str, limit: int) -> list[tuple[str, Item]]:
    """
    The items that were stored after a state, in the order of their arrival, each with the state after it.

    Arrival is ours: a long call counts as new when history gets it, however small its id. States are numbers of
    at most 18 digits; `0` or an empty one begins with the first item ever stored. What went and came again is there
    once, where it arrived last.
    """
    after, found = int(state or 0), dict[int, tuple[str, Item]]()
    first = f"{ARRIVAL}{after // ARRIVALS_IN_ROW:020d}"
    query = f"PartitionKey eq '{resource}' and RowKey ge '{first}' and RowKey lt '{ARRIVAL}~'"
    for row in storage.table(TABLE).query_entities(query):
        sequence, ids = int(row["RowKey"][len(ARRIVAL) :]), json.loads(row["ids"])
        places = enumerate(ids, sequence * ARRIVALS_IN_ROW)
        fresh = {number: arrival for arrival, number in places if arrival > after}
        live = _several(storage, resource, fresh)
        for number, arrival in fresh.items():
            found.pop(number, None)
            if number in live:
                found[number] = str(arrival), live[number]
        if len(found) >= limit:
            break
    return list(found.values())[:limit]


def _several(storage: Storage, resource: str, ids: Collection[int]) -> dict[int, Item]:
    if len(ids) <= _FEW:
        return {number: item for number in ids if (item := get(storage, resource, number)) is not None}
    found = _rows(storage, resource, min(ids), max(ids) + 1)
    return {number: _item(storage, row) for number, row in found if number in ids and not row.get("removed")}


def _rows(
    storage: Storage, resource: str, low: int, high: int, columns: Iterable[str] = ()
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows with ids from `low` to less than `high`, smallest first."""
    condition = f"RowKey ge '{row_key(max(low, 0))}' and RowKey lt '{row_key(high)}'"
    select = ["RowKey", *columns] if columns else None
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{resource}' and {condition}", select=select)
    for row in found:
        yield int(row["RowKey"]), row


def _item(storage: Storage, row: Mapping[str, Any]) -> Item:
    packed = row.get("packed")
    text = row.get("item") or (zlib.decompress(packed) if packed else get_payload(storage, row["payload"]))
    item: Item = json.loads(text)
    return item
