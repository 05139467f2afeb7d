"""Stores items, points to them, and reads them by id, from either end, or in the order of arrival."""

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
# The kinds of the resources in the index by person; the others concern no person.
KINDS: Mapping[str, people.Kind] = {
    "call_history": "call",
    "call_records": "recording",
    "voicemails": "voicemail",
    "contacts": "contact",
}
# Marks an item whose body is gone from container `payloads`.
BODY_MISSING = "bodyMissing"
# Row keys after those of items, which are digits: the rows in the order of arrival, and the last place in it.
ARRIVAL, SEQUENCE = "a", "sequence"
# The most items of an arrival row, which the last two digits of a state count.
ARRIVALS_IN_ROW = 100
# A transaction takes 100 operations and 4 MiB: two of them are the arrival and the sequence, and an item's text grows
# threefold where JSON escapes it.
_IN_BATCH = 98
_LONGEST_TEXT = 12 * 1024
_TRIES = 20
_PAGE = 1000
# `upwards` reads ranges of ids: the width of the first, and the factor by which the next are wider.
_NARROWEST, _WIDER = 2**20, 16
_COLUMNS = ["RowKey", "hash", "revision", "removed", "due"]
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """The state of an item's row; `due` is when its event is to be made, None once it was made."""

    etag: str
    hash: str
    revision: int = 0
    removed: bool = False
    due: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """An item to be written; if it `arrives`, it gets a place in the order of arrival."""

    id: int
    item: Item
    hash: str
    before: Stored | None = None
    removed: bool = False
    arrives: bool = False
    due: datetime | None = None

    @property
    def revision(self) -> int:
        """Return the number of changes to the item since it was first stored, this one included."""
        return self.before.revision + 1 if self.before else 0

    @property
    def happened(self) -> str:
        """Return the end of the name of the item's event, or an empty text if there is no event."""
        if self.removed:
            return "Removed"
        if self.before and not self.before.removed:
            return "Updated"
        return "Created" if self.arrives else ""


def began(item: Mapping[str, Any]) -> datetime | None:
    """Return when an item of history began: the time that decides its month; None if unknown."""
    return event_time(item.get("callStarted")) or call_start(identifier(item.get("callID")) or 0)


def subjects(item: Mapping[str, Any], region: str) -> set[str]:
    """Return the subjects of an item: its numbers and its employee."""
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
    """Return the pointers to an item: from its numbers and its employee, and from LOOSE."""
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
        # After a full page, the ids below its last row are left.
        left = [other for other in left if other < id] if count == _PAGE else []


def _between(
    storage: Storage, resource: str, low: int = 0, high: int = LARGEST_ID, *, page: int = _PAGE, **options: Any
) -> Iterable[Any]:
    """Return the rows of the items with ids from `low` to `high`, largest first; `options` are the SDK's."""
    query = f"PartitionKey eq '{resource}' and RowKey ge '{descending(high)}' and RowKey le '{descending(low)}'"
    return storage.table(TABLE).query_entities(query, results_per_page=page, **options)


def write(storage: Storage, resource: str, changes: Sequence[Change], moment: datetime) -> None:
    """
    Write items, up to a hundred a transaction; items that others have written meanwhile are left as they are.

    Raises Conflict if others kept writing.
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
            current = stored(storage, resource, [change.id for change in batch])
            batch = [change for change in batch if is_unchanged(change, current)]
            if not batch:
                break
        else:
            raise Conflict(f"{resource} kept changing")


def is_unchanged(change: Change, current: Mapping[int, Stored]) -> bool:
    """Return True if the item's row is as it was when the change was made."""
    row = current.get(change.id)
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
        "due": change.due or _NEVER,
        # An update leaves out columns of None, which stay as they were.
        "firstSeen": None if before else moment,
        "lastSeen": moment,
        "began": began(change.item) or moment,
        "item": item.decode(),
        "payload": payload,
    }
    if before is None:
        return "create", row
    return "update", row, {"etag": before.etag, "match_condition": MatchConditions.IfNotModified}


def get(storage: Storage, resource: str, id: int) -> Item | None:
    """Return the item as the PBX sent it last, or None if it is unknown or gone."""
    row = rows.get(storage.table(TABLE), resource, descending(id))
    return None if row is None or row["removed"] else _item(storage, row)


def pointed(storage: Storage, resource: str, found: Sequence[people.Pointer]) -> list[Item]:
    """Return the items that pointers lead to, in their order, without those that are gone."""
    keys = {descending(int(pointer.id)): pointer.moment for pointer in found}
    by_key = people.rows_of(storage.table(TABLE), resource, list(keys.items()))
    return [_item(storage, by_key[key]) for key in keys if key in by_key and not by_key[key]["removed"]]


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
    # A table is read from the largest id down: more than a page is read in ranges that grow from the smallest id.
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
    """Return the state of arrivals now: only items that are stored later arrive after it."""
    row = rows.get(storage.table(TABLE), resource, SEQUENCE)
    last = 0 if row is None else int(rows.value_of(row["last"]))
    return str(last * ARRIVALS_IN_ROW + ARRIVALS_IN_ROW - 1)


def arrived_after(storage: Storage, resource: str, state: str, limit: int) -> list[tuple[str, Item]]:
    """
    Return the items that were stored after a state, in the order of their arrival, each with the state after it.

    An item arrives when it is stored here: a long call is new when history gets it, however small its id. States are
    numbers of at most 18 digits; `0` or an empty text begins with the first item ever stored. An item that was removed
    and came back is returned once, where it arrived last.
    """
    after, found = int(state or 0), dict[int, tuple[str, Item]]()
    first = f"{ARRIVAL}{after // ARRIVALS_IN_ROW:020d}"
    query = f"PartitionKey eq '{resource}' and RowKey ge '{first}' and RowKey lt '{ARRIVAL}~'"
    for row in storage.table(TABLE).query_entities(query, results_per_page=min(limit, _PAGE)):
        places = enumerate(json.loads(row["ids"]), int(row["RowKey"][len(ARRIVAL) :]) * ARRIVALS_IN_ROW)
        fresh = {id: place for place, id in places if place > after}
        live = {from_descending(item["RowKey"]): item for item in _rows(storage, resource, fresh)}
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
        (field,) = [resource.id_field for resource in RESOURCES if resource.name == row["PartitionKey"]]
        return {field: rows.value_of(row["id"]), BODY_MISSING: True}
    item: Item = json.loads(text)
    return item


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """
    Delete the items that began within a period, and the rows of its arrivals.

    Of editable resources only the items go that the PBX has removed, and that were last seen within the period.
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
