"""Rows of items: their state, the pointers to them, writes in batches, and expiry."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any

from shared import people
from shared.errors import Conflict
from shared.identifiers import LARGEST_ID, identifier
from shared.items.content import NUMBERS
from shared.json_bodies import encode
from shared.once import once
from shared.pbx.resources import RESOURCES
from shared.people import Pointer
from shared.storage import rows
from shared.storage.expiry import expire_rows
from shared.storage.messages import put_payload
from shared.storage.rows import LOST, descending, from_descending, transact
from shared.times import MICROSECONDS_PER_SECOND, call_start, event_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from shared.people import Kind
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Period

TABLE = "resources"
# What each resource's items are called in the index by person; the others concern nobody.
KINDS: Mapping[str, Kind] = {
    "call_history": "call",
    "call_records": "recording",
    "voicemails": "voicemail",
    "contacts": "contact",
}
_NEVER = datetime.fromtimestamp(0, UTC)
# Behind the items, whose keys are digits: rows in the order of arrival, and the last place in it.
ARRIVAL, SEQUENCE = "a", "sequence"
# An arrival row holds at most so many items: the last two digits of a state count them.
ARRIVALS_IN_ROW = 100
# A transaction takes 100 operations and 4 MiB; two of them are the arrival and the sequence.
_IN_BATCH = 98
_BYTES_IN_BATCH = 2 * 1024 * 1024
_LONGEST_TEXT = 30 * 1024
_TRIES = 20
_PAGE = 1000
_COLUMNS = ["RowKey", "hash", "revision", "removed", "baseline", "waits", "due"]


Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """
    The state of an item's row: its content hash, how often the item has changed, and whether it is gone.

    A `baseline` was there before anything was handed on. `waits` is the origin of the events that are still to be made
    of it, once `due` has passed.
    """

    etag: str
    hash: str
    revision: int = 0
    removed: bool = False
    baseline: bool = False
    waits: str = ""
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
    baseline: bool = False
    waits: str = ""
    due: datetime | None = None

    @property
    def revision(self) -> int:
        """Return the number of times that the item has changed, come or gone, this one included."""
        return self.before.revision + 1 if self.before else 0


def began(item: Mapping[str, Any]) -> datetime | None:
    """Return when an item of history began: the time that decides its month; None where it does not say."""
    started = event_time(item.get("callStarted"))
    number = identifier(item.get("callID"))
    return started or (None if number is None else call_start(number))


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
) -> list[tuple[str, Pointer]]:
    """Return the pointers to an item: from its numbers and its employee, and from what is loose."""
    if resource not in KINDS:
        return []
    kind = KINDS[resource]
    moment = call_start(id) if kind == "call" else None
    moment = moment or event_time(item.get("callStarted") or item.get("created")) or _NEVER
    found = subjects(item, region) | ({people.LOOSE} & people.loose(item, drift, region))
    return list(product(found, [Pointer(kind, str(id), moment)]))


def stored(storage: Storage, resource: str, ids: Collection[int] | None = None) -> dict[int, Stored]:
    """
    Return the state of these items' rows, or of all of the resource's; ids that are not stored are left out.

    Neighbours are read together: one request for up to a thousand rows.
    """
    if ids is None:
        return {from_descending(row["RowKey"]): _stored(row) for row in _between(storage, resource, 0, LARGEST_ID)}
    found: dict[int, Stored] = {}
    wanted, left = set(ids), sorted(ids, reverse=True)
    while left:
        for number, row in enumerate(_between(storage, resource, left[-1], left[0]), start=1):
            id = from_descending(row["RowKey"])
            if id in wanted:
                found[id] = _stored(row)
            if number == _PAGE:
                # Where others lie between, the next ones are looked for by their own keys.
                left = [one for one in left if one < id]
                break
        else:
            break
    return found


def _between(storage: Storage, resource: str, low: int, high: int) -> Iterator[Mapping[str, Any]]:
    condition = f"RowKey ge '{descending(high)}' and RowKey le '{descending(low)}'"
    query = f"PartitionKey eq '{resource}' and {condition}"
    return iter(storage.table(TABLE).query_entities(query, select=_COLUMNS, results_per_page=_PAGE))


def _stored(row: Any) -> Stored:
    return Stored(
        etag=str(row.metadata["etag"]),
        hash=row["hash"],
        revision=row["revision"],
        removed=row["removed"],
        baseline=row["baseline"],
        waits=row.get("waits", ""),
        due=row.get("due"),
    )


def write(storage: Storage, resource: str, changes: Iterable[Change], moment: datetime) -> None:
    """
    Write items, up to a hundred a transaction; those that somebody else has written meanwhile are left as they are.

    Raises Conflict when others kept writing.
    """
    for batch in _batches(changes):
        _write(storage, resource, batch, moment)


def _write(storage: Storage, resource: str, batch: Sequence[Change], moment: datetime) -> None:
    from azure.data.tables import TableTransactionError

    last = _last_sequences(storage).get(resource)
    for _ in range(_TRIES):
        arrived = [change.id for change in batch if change.arrives]
        operations = [_operation(storage, resource, change, moment) for change in batch]
        if arrived:
            last = last or rows.get(storage.table(TABLE), resource, SEQUENCE)
            number, sequence = _next(resource, last)
            operations += [("create", _arrival(resource, number, arrived)), sequence]
        try:
            answers = transact(storage.table(TABLE), operations)
        except TableTransactionError as error:
            if error.status_code not in LOST:
                raise
        else:
            if arrived:
                row = {"PartitionKey": resource, "RowKey": SEQUENCE, "last": rows.long(number)}
                _last_sequences(storage)[resource] = rows.Row(row, answers[-1]["etag"])
            return
        _last_sequences(storage).pop(resource, None)
        last, now = None, stored(storage, resource, [change.id for change in batch])
        batch = [one for one in batch if is_unchanged(one, now)]
        if not batch:
            return
    raise Conflict(f"{resource} kept changing")


def is_unchanged(change: Change, now: Mapping[int, Stored]) -> bool:
    """True if nobody has written the item's row since the change was made of it."""
    row = now.get(change.id)
    return row == change.before if row is None or change.before is None else row.etag == change.before.etag


@once
def _last_sequences(storage: Storage) -> dict[str, rows.Row]:
    """Return the sequences that this process wrote last: they save a read, and a stale one fails by its ETag."""
    return {}


def sequence(storage: Storage, resource: str) -> int:
    """Return the last place in the order of arrival; 0 before the first."""
    row = rows.get(storage.table(TABLE), resource, SEQUENCE)
    return 0 if row is None else int(rows.value_of(row["last"]))


def _next(resource: str, last: rows.Row | None) -> tuple[int, Any]:
    """Return the next place, a time that never goes back, and the operation that takes it."""
    from azure.core import MatchConditions

    number = max(time.time_ns() // 1000, int(rows.value_of(last["last"])) + 1 if last else 1)
    row = {"PartitionKey": resource, "RowKey": SEQUENCE, "last": rows.long(number)}
    if last is None:
        return number, ("create", row)
    guard = {"etag": last.etag, "match_condition": MatchConditions.IfNotModified, "mode": "replace"}
    return number, ("update", row, guard)


def _arrival(resource: str, number: int, ids: Sequence[int]) -> dict[str, Any]:
    return {"PartitionKey": resource, "RowKey": f"{ARRIVAL}{number:020d}", "ids": json.dumps(sorted(ids))}


def _operation(storage: Storage, resource: str, change: Change, moment: datetime) -> Any:
    from azure.core import MatchConditions

    row: dict[str, Any] = {"PartitionKey": resource, "RowKey": descending(change.id), "id": rows.long(change.id)}
    row |= {"hash": change.hash, "revision": change.revision, "removed": change.removed, "lastSeen": moment}
    row["baseline"] = change.baseline
    row |= _content(storage, resource, change)
    row |= {"waits": change.waits, "due": change.due} if change.waits else {}
    row["began"] = began(change.item) or moment
    if change.before is None:
        return "create", row | {"firstSeen": moment}
    row |= {} if change.waits else {"waits": ""}
    return "update", row, {"etag": change.before.etag, "match_condition": MatchConditions.IfNotModified}


def _content(storage: Storage, resource: str, change: Change) -> dict[str, str]:
    """Return the columns with the item: its text, or the blob of a text that is too long for a column."""
    text = encode(change.item)
    if len(text) <= _LONGEST_TEXT:
        return {"item": text.decode(), "payload": ""}
    return {"item": "", "payload": put_payload(storage, f"{TABLE}/{resource}/{change.id}-{change.hash}", text)}


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    batch, size = list["Change"](), 0
    for change in changes:
        length = min(len(str(change.item)), _LONGEST_TEXT)
        if batch and (len(batch) == _IN_BATCH or size + length > _BYTES_IN_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += length
    if batch:
        yield batch


def end_waiting(storage: Storage, resource: str, etags: Mapping[int, str]) -> None:
    """Store that the events of these items were made; of those that have changed meanwhile they are made again."""
    from azure.core import MatchConditions
    from azure.data.tables import TableTransactionError

    operations = []
    for id, etag in etags.items():
        row = {"PartitionKey": resource, "RowKey": descending(id), "waits": ""}
        operations.append(("update", row, {"etag": etag, "match_condition": MatchConditions.IfNotModified}))
    for start in range(0, len(operations), _IN_BATCH):
        try:
            transact(storage.table(TABLE), operations[start : start + _IN_BATCH])
        except TableTransactionError as error:
            if error.status_code not in LOST:
                raise


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """
    Delete the items that began within a period, and the marks of what arrived in it.

    Of what can be edited, only what the PBX has removed goes, once it was last seen within the period.
    """
    table, found = storage.table(TABLE), 0
    started = period.condition("began") + ("" if period.first else f" or {period.condition('firstSeen')}")
    low, high = (ARRIVAL + _stamp(moment) if moment else ARRIVAL for moment in (period.first, period.last))
    for row in RESOURCES:
        old = f"removed eq true and {period.condition('lastSeen')}" if row.editable else started
        items = f"PartitionKey eq '{row.name}' and RowKey lt ':' and ({old})"
        found += expire_rows(table, items, allowance, name=f"items of {row.name}")
        marks = f"PartitionKey eq '{row.name}' and RowKey ge '{low}' and RowKey lt '{high}'"
        found += expire_rows(table, marks, allowance, name=f"arrivals of {row.name}")
    return found


def _stamp(moment: datetime) -> str:
    return f"{max(int(moment.timestamp() * MICROSECONDS_PER_SECOND), 0):020d}"
