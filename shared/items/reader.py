"""Reading items: by id, newest first, and in the order of arrival."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared import people
from shared.errors import Unprocessable
from shared.identifiers import LARGEST_ID
from shared.items.store import ARRIVAL, ARRIVALS_IN_ROW, SEQUENCE, TABLE, Item, read_rows
from shared.pbx.resources import resource as resource_of
from shared.storage import rows
from shared.storage.messages import get_payload
from shared.storage.rows import descending

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.people import Pointer
    from shared.storage.account import Storage

# Marks an item whose body is gone from container `payloads`.
BODY_MISSING = "bodyMissing"
# The smallest ids above one are looked for in ranges that begin as wide as this and grow so many times.
_NARROWEST, _WIDER = 2**20, 16


def get(storage: Storage, resource: str, id: int) -> Item | None:
    """Return the item as the PBX sent it last, or None where it is unknown or gone."""
    row = rows.get(storage.table(TABLE), resource, descending(id))
    return None if row is None or row["removed"] else _item(storage, row)


def pointed(storage: Storage, resource: str, found: Sequence[Pointer]) -> list[Item]:
    """Return the items that pointers lead to, in their order; those that are gone are left out."""
    keys = {descending(int(one.id)): one.moment for one in found}
    there = people.rows_of(storage.table(TABLE), resource, list(keys.items()))
    return [_item(storage, there[key]) for key in keys if key in there and not there[key]["removed"]]


def downwards(
    storage: Storage, resource: str, *, above: int = -1, below: int = LARGEST_ID + 1, page: int = _PAGE
) -> Iterator[Item]:
    """Yield the items with ids between two others, largest first, read a page at a time."""
    if below - above < 2:
        return
    keys = f"RowKey ge '{descending(below - 1)}' and RowKey le '{descending(above + 1)}'"
    query = f"PartitionKey eq '{resource}' and {keys}"
    for row in storage.table(TABLE).query_entities(query, results_per_page=min(page, _PAGE)):
        if not row["removed"]:
            yield _item(storage, row)


def upwards(storage: Storage, resource: str, *, above: int, below: int = LARGEST_ID + 1) -> Iterator[Item]:
    """
    Yield the items with ids between two others, smallest first.

    A table is read from the largest id down: what fills more than a page is looked for in ranges that grow.
    """
    newest = list(islice(downwards(storage, resource, above=above, below=below), _PAGE))
    if len(newest) < _PAGE:
        yield from reversed(newest)
        return
    low, width = above, _NARROWEST
    while low + 1 < below:
        high = min(low + width, below)
        yield from reversed(list(downwards(storage, resource, above=low, below=high)))
        low, width = high - 1, width * _WIDER


def present(storage: Storage, resource: str) -> str:
    """Return the state after which everything counts as arriving from now on."""
    row = rows.get(storage.table(TABLE), resource, SEQUENCE)
    last = 0 if row is None else int(rows.value_of(row["last"]))
    return str(last * ARRIVALS_IN_ROW + ARRIVALS_IN_ROW - 1)


def arrived_after(storage: Storage, resource: str, state: str, limit: int) -> list[tuple[str, Item]]:
    """
    Return the items that were stored after a state, in the order of their arrival, each with the state after it.

    Arrival is ours: a long call counts as new when history gets it, however small its id. States are numbers of at most
    18 digits; `0` or an empty one begins with the first item ever stored. An item that went and came again is there
    once, where it arrived last.
    """
    after, found = int(state or 0), dict[int, tuple[str, Item]]()
    first = f"{ARRIVAL}{after // ARRIVALS_IN_ROW:020d}"
    query = f"PartitionKey eq '{resource}' and RowKey ge '{first}' and RowKey lt '{ARRIVAL}~'"
    for row in storage.table(TABLE).query_entities(query, results_per_page=min(limit, _PAGE)):
        number, ids = int(row["RowKey"][len(ARRIVAL) :]), json.loads(row["ids"])
        places = enumerate(ids, number * ARRIVALS_IN_ROW)
        fresh = {id: place for place, id in places if place > after}
        live = read_rows(storage, resource, fresh)
        for id, place in fresh.items():
            found.pop(id, None)
            if id in live and not live[id]["removed"]:
                found[id] = str(place), _item(storage, live[id])
        if len(found) >= limit:
            break
    return list(found.values())[:limit]


def _item(storage: Storage, row: Mapping[str, Any]) -> Item:
    try:
        text = row["item"] or get_payload(storage, row["payload"])
    except Unprocessable:
        return {resource_of(row["PartitionKey"]).id_field: rows.value_of(row["id"]), BODY_MISSING: True}
    item: Item = json.loads(text)
    return item
