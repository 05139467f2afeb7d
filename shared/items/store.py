"""Stores items, with the pointers to them, and reads them by id, from either end, or in the order of arrival."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from shared import people
from shared.errors import Conflict, Unprocessable
from shared.items.content import NUMBERS
from shared.pbx.resources import RESOURCES
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.messages import get_payload, put_payload
from shared.storage.rows import LOST, Allowance, Period, descending, expire_rows, from_descending, transact
from shared.times import call_start, clock, event_time
from shared.values import LARGEST_ID, encode, identifier

Item = dict[str, Any]

TABLE = "resources"
# The kinds of resources in the index by person; the others concern nobody.
KINDS: Mapping[str, people.Kind] = {
    "call_history": "call",
    "call_records": "recording",
    "voicemails": "voicemail",
    "contacts": "contact",
}
# Marks an item whose body is gone from container `payloads`.
BODY_MISSING = "bodyMissing"
# Behind the items, whose keys are digits: rows in the order of arrival, and the last place in it.
ARRIVAL, SEQUENCE = "a", "sequence"
# An arrival row holds at most so many items: the last two digits of a state count them.
ARRIVALS_IN_ROW = 100
# A transaction takes 100 operations and 4 MiB: two of them are the arrival and the sequence, and an item's text grows
# threefold where JSON escapes it.
_IN_BATCH = 98
_LONGEST_TEXT = 12 * 1024
_TRIES = 20
_PAGE = 1000
# The smallest ids above one are looked for in ranges that begin as wide as this and grow so many times.
_NARROWEST, _WIDER = 2**20, 16
_COLUMNS = ["RowKey", "hash", "revision", "removed", "due"]
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """The state of an item's row; `due` is when events are to be made of it, None once they were."""

    etag: str
    hash: str
    revision: int = 0
    removed: bool = False
    due: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """An item to be written. One that `arrives` takes a place in the order of arrival."""

    id: int
    item: Item
    hash: str
    before: Stored | None = None
    removed: bool = False
    arrives: bool = False
    due: datetime | None = None

    @property
    def revision(self) -> int:
        """Return the number of times that the item has changed, come or gone, this one included."""
        return self.before.revision + 1 if self.before else 0

    @property
    def happened(self) -> str:
        """Return what the item's event says of it; empty where it has none."""
        if self.removed:
            return "Removed"
        if self.before and not self.before.removed:
            return "Updated"
        return "Created" if self.arrives else ""


def began(item: Mapping[str, Any]) -> datetime | None:
    """Return when an item of history began: the time that decides its month; None where it does not say."""
    return event_time(item.get("callStarted")) or call_start(identifier(item.get("callID")) or 0)


def subjects(item: Mapping[str, Any], region: str) -> set[str]:
    """Return the numbers and the employee that an item has to do with."""
    found: set[str] = set()
    for name in NUMBERS:
        text = item.get(name)
        if isinstance(text, (str, int)) and text != "":
            found.add(people.number(str(text), region))
    if (contact := identifier(item.get("contactID"))) is not None:
        found.add(people.employee(contact))
    return found


def pointers(
    resource: str, id: int, item: Mapping[str, Any], region: str, drift: Collection[str] = ()
) -> list[tuple[str, people.Pointer]]:
    """Return the pointers to an item: from its numbers and its employee, and from what is loose."""
    if (kind := KINDS.get(resource)) is None:
        return []
    moment = call_start(id) if kind == "call" else None
    moment = moment or event_time(item.get("callStarted") or item.get("created")) or _NEVER
    found = subjects(item, region) | ({people.LOOSE} & people.loose(item, drift, region))
    return [(subject, people.Pointer(kind, str(id), moment)) for subject in found]


def stored(storage: Storage, resource: str, ids: Collection[int] | None = None) -> dict[int, Stored]:
    """Return the state of these items' rows, or of all of the resource's; ids that are not stored are left out."""
    found = _between(storage, resource, select=_COLUMNS) if ids is None else _rows(storage, resource, ids, _COLUMNS)
    return dict(map(_stored, found))


def recent(storage: Storage, resource: str, since: datetime) -> dict[int, Stored]:
    """Return the state of the rows of items that began since a time, among the thousand with the largest ids."""
    newest = islice(_between(storage, resource, select=[*_COLUMNS, "began"]), _PAGE)
    return dict(_stored(row) for row in newest if row["began"] >= since)


def _stored(row: Any) -> tuple[int, Stored]:
    return from_descending(row["RowKey"]), Stored(
        etag=str(row.metadata["etag"]),
        hash=row["hash"],
        revision=row["revision"],
        removed=row["removed"],
        due=row["due"] if row["due"] != _NEVER else None,
    )


def _rows(storage: Storage, resource: str, ids: Collection[int], select: list[str] | None = None) -> Iterator[Any]:
    """Yield the rows of items; neighbours are read together, with one request for up to a thousand rows."""
    wanted, left = set(ids), sorted(ids, reverse=True)
    while left:
        count, id = 0, -1
        for row in islice(_between(storage, resource, left[-1], left[0], select=select), _PAGE):
            count, id = count + 1, from_descending(row["RowKey"])
            if id in wanted:
                yield row
        # Where others lie between, the next ones are looked for by their own keys.
        left = [one for one in left if one < id] if count == _PAGE else []


def _between(
    storage: Storage, resource: str, low: int = 0, high: int = LARGEST_ID, *, page: int = _PAGE, **options: Any
) -> Iterable[Any]:
    """Return the rows of the items with ids from `low` to `high`, largest first; `options` are the SDK's."""
    query = f"PartitionKey eq '{resource}' and RowKey ge '{descending(high)}' and RowKey le '{descending(low)}'"
    return storage.table(TABLE).query_entities(query, results_per_page=page, **options)


def write(storage: Storage, resource: str, changes: Sequence[Change], moment: datetime) -> None:
    """
    Write items, up to a hundred a transaction; those that somebody else has written meanwhile are left as they are.

    Raises Conflict when others kept writing.
    """
    from azure.data.tables import TableTransactionError

    for start in range(0, len(changes), _IN_BATCH):
        batch = changes[start : start + _IN_BATCH]
        for _ in range(_TRIES):
            operations = [_operation(storage, resource, change, moment) for change in batch]
            if arrived := sorted(change.id for change in batch if change.arrives):
                operations += _arrival(storage, resource, arrived)
            try:
                transact(storage.table(TABLE), operations)
                break
            except TableTransactionError as error:
                if error.status_code not in LOST:
                    raise
            now = stored(storage, resource, [change.id for change in batch])
            batch = [change for change in batch if is_unchanged(change, now)]
            if not batch:
                break
        else:
            raise Conflict(f"{resource} kept changing")


def is_unchanged(change: Change, now: Mapping[int, Stored]) -> bool:
    """True if nobody has written the item's row since the change was made of it."""
    row = now.get(change.id)
    return row == change.before if row is None or change.before is None else row.etag == change.before.etag


def _arrival(storage: Storage, resource: str, ids: Sequence[int]) -> list[Any]:
    """Return the operations that take the next place in the order of arrival, a time that never goes back."""
    from azure.core import MatchConditions

    last = rows.get(storage.table(TABLE), resource, SEQUENCE)
    place = max(time.time_ns() // 1000, int(rows.value_of(last["last"])) + 1 if last else 1)
    arrival = {"PartitionKey": resource, "RowKey": f"{ARRIVAL}{place:020d}", "ids": json.dumps(ids)}
    row = {"PartitionKey": resource, "RowKey": SEQUENCE, "last": rows.long(place)}
    if last is None:
        return [("create", arrival), ("create", row)]
    guard = {"etag": last.etag, "match_condition": MatchConditions.IfNotModified, "mode": "replace"}
    return [("create", arrival), ("update", row, guard)]


def _operation(storage: Storage, resource: str, change: Change, moment: datetime) -> Any:
    from azure.core import MatchConditions

    before, item, payload = change.before, encode(change.item), ""
    if len(item) > _LONGEST_TEXT:
        item, payload = b"", put_payload(storage, f"{TABLE}/{resource}/{change.id}-{change.hash}", item)
    row = {
        "PartitionKey": resource,
        "RowKey": descending(change.id),
        "id": rows.long(change.id),
        "hash": change.hash,
        "revision": change.revision,
        "removed": change.removed,
        # Columns that are left out stay as they were.
        "due": change.due or _NEVER,
        "firstSeen": None if before else moment,
        "lastSeen": moment,
        "began": began(change.item) or moment,
        "item": item.decode(),
        "payload": payload,
    }
    if before is None:
        return "create", row
    return "update", row, {"etag": before.etag, "match_condition": MatchConditions.IfNotModified}


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """
    Delete the items that began within a period, and the marks of what arrived in it.

    Of what can be edited, only what the PBX has removed goes, once it was last seen within the period.
    """
    table, found = storage.table(TABLE), 0
    started = period.condition("began") + ("" if period.first else f" or {period.condition('firstSeen')}")
    low = f"{ARRIVAL}{clock(period.first):020d}" if period.first else ARRIVAL
    high = f"{ARRIVAL}{clock(period.last):020d}"
    for row in RESOURCES:
        old = f"removed eq true and {period.condition('lastSeen')}" if row.editable else started
        for condition in (f"RowKey lt ':' and ({old})", f"RowKey ge '{low}' and RowKey lt '{high}'"):
            found += expire_rows(table, f"PartitionKey eq '{row.name}' and {condition}", allowance)
    return found


def get(storage: Storage, resource: str, id: int) -> Item | None:
    """Return the item as the PBX sent it last, or None where it is unknown or gone."""
    row = rows.get(storage.table(TABLE), resource, descending(id))
    return None if row is None or row["removed"] else _item(storage, row)


def pointed(storage: Storage, resource: str, found: Sequence[people.Pointer]) -> list[Item]:
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
    for row in _between(storage, resource, above + 1, below - 1, page=min(page, _PAGE)):
        if not row["removed"]:
            yield _item(storage, row)


def upwards(storage: Storage, resource: str, *, above: int, below: int = LARGEST_ID + 1) -> Iterator[Item]:
    """Yield the items with ids between two others, smallest first."""
    # A table is read from the largest id down: what fills more than a page is looked for in ranges that grow.
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
        places = enumerate(json.loads(row["ids"]), int(row["RowKey"][len(ARRIVAL) :]) * ARRIVALS_IN_ROW)
        fresh = {id: place for place, id in places if place > after}
        live = {from_descending(one["RowKey"]): one for one in _rows(storage, resource, fresh)}
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
        (field,) = [one.id_field for one in RESOURCES if one.name == row["PartitionKey"]]
        return {field: rows.value_of(row["id"]), BODY_MISSING: True}
    item: Item = json.loads(text)
    return item
