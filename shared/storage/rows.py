"""
Single rows of tables: the one place that knows ETags, "not found", and what to do when a write gets no answer.

`table` is `storage.table(NAME)`; a row to write has `PartitionKey` and `RowKey`. Every call raises StorageUnavailable
when storage is out of reach, and `change` raises Conflict when others kept changing the row.

A write whose connection breaks may have been done. `insert`, `swap` and `change` never leave that open: column `writer`
has a token of each of the last writes (docs/decisions/0001-exactly-one-effect.md).
A `Row` is without it.

Which rows belong together in a transaction, and what follows where one of them has changed, is for the table's owner.
"""

from __future__ import annotations

import json
import random
import secrets
import threading
from typing import TYPE_CHECKING, Any, Literal

from shared.errors import Conflict, StorageUnavailable
from shared.identifiers import LARGEST_ID
from shared.storage.account import reaching_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from azure.data.tables import EntityProperty, TableClient

WRITER = "writer"
# Statuses of a transaction that found a row gone, there already, or changed.
LOST = (404, 409, 412)
# As many may write between a write whose answer gets lost and its second try.
_WRITERS = 16
# Tries of a write that gets no answer: the second one at once, the third after these seconds.
_TRIES = 3
_PAUSE_SECONDS = 0.5
# A write that may be done twice: the SDK sends these again only where it is asked to.
_AGAIN: Any = {"retry_on_methods": ("PATCH", "POST")}
_REPLACE: Any = {"mode": "replace"}
# As many workers may well change one row at once; each lost race is one more read and write.
_RACES = 32
# A page of the table service, and how many that hold nothing are read before the caller hears that there is more.
_PAGE, _PAGES = 1000, 4
_RACE_SECONDS = 0.02


class Row(dict[str, Any]):
    """The columns of a row with its keys, as the table knew them at `etag`."""

    def __init__(self, columns: Mapping[str, Any], etag: str) -> None:
        super().__init__(columns)
        self.writers = str(self.pop(WRITER, "")).split()
        self.etag = etag


def row_key(number: int) -> str:
    """Return an identifier as a row key that sorts as the number does, up to LARGEST_ID."""
    return f"{number:020d}"


def descending(number: int) -> str:
    """Return a row key of 20 digits that sorts the largest identifier first."""
    return row_key(LARGEST_ID - number)


def from_descending(key: str) -> int:
    """Return the identifier that `descending` made a row key of."""
    return LARGEST_ID - int(key)


def long(number: int) -> EntityProperty:
    """Return a column of 64 bits; the SDK writes other numbers as 32."""
    from azure.data.tables import EdmType, EntityProperty

    return EntityProperty(number, EdmType.INT64)


def value_of(column: Any) -> Any:
    """Return the value of a column; the SDK wraps those of 64 bits."""
    return getattr(column, "value", column)


def get(
    table: TableClient, partition: str, key: str, select: Sequence[str] | None = None, **options: Any
) -> Row | None:
    """Return the row, or None where there is none; `options` are the SDK's, such as `read_timeout`."""
    from azure.core.exceptions import ResourceNotFoundError

    chosen = {"select": [*select]} if select else {}
    try:
        with reaching_storage():
            found = table.get_entity(partition, key, **chosen, **options)
    except ResourceNotFoundError:
        return None
    return Row(found, str(found.metadata["etag"]))


def insert(table: TableClient, row: Mapping[str, Any]) -> bool:
    """Make the row where there is none; return True for exactly one of several at once, also where answers get lost."""
    return _swap(table, row, secrets.token_hex(6), None) is not None


def swap(
    table: TableClient, row: Mapping[str, Any], etag: str | None, *, tries: int = _TRIES, **options: Any
) -> str | None:
    """
    Replace the row if it is still as it was at `etag`, or make it for None; return the new ETag or None.

    For those who remember a row's ETag; `change` reads it.
    """
    token = secrets.token_hex(6)
    written = _swap(table, row, token, etag, tries=tries, **options)
    # Others may have written after us.
    return written.etag if written is not None and written.writers[0] == token else None


def change(
    table: TableClient,
    partition: str,
    key: str,
    by: Callable[[Row | None], Mapping[str, Any] | None],
    known: Row | Literal["read"] | None = "read",
) -> Row | None:
    """
    Replace the row with the columns that `by` makes of it, under its ETag; return None where `by` does.

    `by` gets None where there is no row, and is called again with the newer row after each lost race, so it has no
    effects of its own. `known` is the row as the caller remembers it, which saves a read; keys need not be given back.
    Raises Conflict after 32 lost races.
    """
    row = get(table, partition, key) if known == "read" else known
    for number in range(_RACES):
        wanted = by(row)
        if wanted is None:
            return None
        entity = {**wanted, "PartitionKey": partition, "RowKey": key}
        etag, writers = (row.etag, row.writers) if row is not None else (None, [])
        written = _swap(table, entity, secrets.token_hex(6), etag, writers=writers)
        if written is not None:
            return written
        threading.Event().wait(random.uniform(0, _RACE_SECONDS * min(number, 5)))  # noqa: S311 - jitter
        row = get(table, partition, key)
    raise Conflict(f"a row of {table.table_name} kept changing")


def put(table: TableClient, row: Mapping[str, Any]) -> None:
    """Replace the row, or make it."""
    with reaching_storage():
        table.upsert_entity(row, **_REPLACE)


def merge(table: TableClient, row: Mapping[str, Any]) -> None:
    """Set these columns of the row and keep its others, or make it."""
    with reaching_storage():
        table.upsert_entity(row, **_AGAIN)


def update(table: TableClient, row: Mapping[str, Any]) -> bool:
    """Set these columns of a row that is there and keep its others; return False where there is none."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        with reaching_storage():
            table.update_entity(row, **_AGAIN)
    except ResourceNotFoundError:
        return False
    return True


def delete(table: TableClient, partition: str, key: str, etag: str | None = None) -> bool:
    """Delete the row, with `etag` only if it is still as it was then; return True if it is gone now, whoever did it."""
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceModifiedError

    guard: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
    try:
        with reaching_storage():
            table.delete_entity(partition, key, **guard)
    except ResourceModifiedError:
        return False
    return True


def page(
    table: TableClient, query: str, start: str | None, limit: int, select: list[str] | None = None
) -> tuple[list[Mapping[str, Any]], str | None]:
    """
    Return up to `limit` rows that meet a query, from `start` on, and where the next page starts: None at the end.

    A page may be short, or empty, although there is more: the service stops looking after a while.
    """
    with reaching_storage():
        found = table.query_entities(query, results_per_page=min(limit, _PAGE), select=select)
        pages: Any = found.by_page(json.loads(start) if start else None)
        for _ in range(_PAGES):
            part = list(next(pages, ()))
            if part or not pages.continuation_token:
                break
    return part, json.dumps(pages.continuation_token) if pages.continuation_token else None


def transact(table: TableClient, operations: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    """
    Write rows of one partition as a whole; return the metadata of each. Raises TableTransactionError with one of LOST.

    A retry after a lost response conflicts with the first write.
    """
    with reaching_storage():
        return table.submit_transaction(operations, **_AGAIN)


def _swap(
    table: TableClient,
    row: Mapping[str, Any],
    token: str,
    etag: str | None,
    *,
    writers: Sequence[str] = (),
    tries: int = _TRIES,
    **options: Any,
) -> Row | None:
    """Write the row; return it with what others have made of it since, or None if this write was not done."""
    entity = {**row, WRITER: " ".join([token, *writers[: _WRITERS - 1]])}
    unanswered: StorageUnavailable | None = None
    for number in range(tries):
        if number > 1:
            threading.Event().wait(_PAUSE_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311 - jitter
        try:
            written = _write_once(table, entity, etag, options)
        except StorageUnavailable as error:
            unanswered = error
            continue
        if written is not None:
            return Row(entity, written)
        found = get(table, entity["PartitionKey"], entity["RowKey"], **options) if unanswered else None
        return found if found is not None and token in found.writers else None
    raise unanswered or ValueError("tries is at least one")


def _write_once(table: TableClient, entity: Mapping[str, Any], etag: str | None, options: Any) -> str | None:
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

    # What a second try finds in its way is for us to judge, not for the SDK.
    guard: dict[str, Any] = {"retry_total": 0, **options}
    if etag is not None:
        guard |= {**_REPLACE, "etag": etag, "match_condition": MatchConditions.IfNotModified}
    try:
        with reaching_storage():
            answer = (table.create_entity if etag is None else table.update_entity)(entity, **guard)
    except ResourceNotFoundError:
        if etag is None:
            raise
        return None
    except (ResourceExistsError, ResourceModifiedError):
        return None
    return str(answer["etag"])
