"""
Rows of tables: the only module that handles ETags, "not found", and writes that get no answer.

`table` is `storage.table(NAME)`; a row to write has `PartitionKey` and `RowKey`.

A write whose connection breaks may have been done. `insert`, `swap` and `change` find out: column `writer` has a token
of each of the last writes (docs/decisions/0001-exactly-one-effect.md). A `Row` does not show it.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from shared.errors import Conflict, StorageUnavailable
from shared.storage.account import OVERLOADED
from shared.times import iso
from shared.values import LARGEST_ID

if TYPE_CHECKING:
    from azure.data.tables import EntityProperty, TableClient

WRITER = "writer"
# Statuses of a transaction of which a row was gone, existed already, or had changed.
LOST = (404, 409, 412)
# The number of tokens in a row: as many may write between a write whose answer is lost and its second try.
_WRITERS = 16
# Tries of a write that gets no answer: the second one at once, the third after these seconds.
_TRIES, _PAUSE_SECONDS = 3, 0.5
# Races that a change may lose, since many workers change one row at once, and the unit of the pauses in between.
_RACES, _RACE_SECONDS = 32, 0.02
# A transaction takes a hundred rows of one partition.
IN_BATCH = 100
# The rows of a page of the table service, and the number of empty pages that are read for one with rows.
_PAGE, _PAGES = 1000, 4
_ACCEPTED, _FIRST_ERROR = 202, 300
_METHODS = {"create": "POST", "delete": "DELETE", "merge": "PATCH", "replace": "PUT"}
_LARGEST_INT32 = 2**31 - 1
_ETAG = re.compile(r"^ETag: (.*?)\r?$", re.IGNORECASE | re.MULTILINE)
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Row(dict[str, Any]):
    """The columns of a row with its keys, as the table knew them at `etag`."""

    def __init__(self, columns: Mapping[str, Any], etag: str) -> None:
        super().__init__(columns)
        self.writers = str(self.pop(WRITER, "")).split()
        self.etag = etag


def descending(number: int) -> str:
    """Return a row key of 20 digits that sorts the largest identifier first."""
    return f"{LARGEST_ID - number:020d}"


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
    """Return the row, or None if there is none; `options` are those of the transport."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        entity = table.get_entity(partition, key, select=[*select] if select else None, **options)
    except ResourceNotFoundError:
        return None
    return Row(entity, str(entity.metadata["etag"]))


def insert(table: TableClient, row: Mapping[str, Any]) -> bool:
    """Create the row if there is none; return True for exactly one of several callers, even if answers are lost."""
    return swap(table, row, None) is not None


def swap(table: TableClient, row: Mapping[str, Any], etag: str | None, writers: Sequence[str] = ()) -> Row | None:
    """
    Replace the row if it is still as it was at `etag`, or create it for None; return it, or None if others were first.

    After a lost answer the returned row has later changes by others too. `writers` are those of the row at `etag`.
    """
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

    token = secrets.token_hex(6)
    entity = {**row, WRITER: " ".join([token, *writers[: _WRITERS - 1]])}
    guard: dict[str, Any] = {"mode": "replace", "etag": etag, "match_condition": MatchConditions.IfNotModified}
    unanswered: StorageUnavailable | None = None
    for number in range(_TRIES):
        if number > 1:
            threading.Event().wait(_PAUSE_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311 - jitter
        try:
            # Tried again here, where a conflict with the first try is recognised.
            answer = table.update_entity(entity, tries=1, **guard) if etag else table.create_entity(entity, tries=1)
            return Row(entity, str(answer["etag"]))
        except StorageUnavailable as error:
            unanswered = error
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError) as error:
            if etag is None and isinstance(error, ResourceNotFoundError):
                raise  # the table is not there
            current = get(table, entity["PartitionKey"], entity["RowKey"]) if unanswered else None
            return current if current is not None and token in current.writers else None
    raise unanswered or ValueError


def change(
    table: TableClient,
    partition: str,
    key: str,
    by: Callable[[Row | None], Mapping[str, Any] | None],
    known: Row | Literal["read"] | None = "read",
    *,
    beside: Callable[[Row | None, Mapping[str, Any]], Sequence[Any]] | None = None,
) -> Row | None:
    """
    Replace the row with the columns that `by` makes of it, under its ETag; return None if `by` does.

    `by` gets None if there is no row, and may leave out the keys. It is called again with the newer row after each lost
    race, and after a lost answer if there is `beside`, so its effects must be harmless twice. `known` is the row as the
    caller remembers it, which saves a read. `beside` gets the old row and the new one, and returns further operations
    of the same transaction. Raises Conflict after 32 lost races.
    """
    row = get(table, partition, key) if known == "read" else known
    for number in range(_RACES):
        columns = by(row)
        if columns is None:
            return None
        etag, writers = (row.etag, row.writers) if row is not None else (None, [])
        new = {**columns, "PartitionKey": partition, "RowKey": key}
        written = _swap_all(table, new, etag, beside(row, new)) if beside else swap(table, new, etag, writers)
        if written is not None:
            return written
        threading.Event().wait(random.uniform(0, _RACE_SECONDS * min(number, 5)))  # noqa: S311 - jitter
        row = get(table, partition, key)
    raise Conflict(f"a row of {table.table_name} kept changing")


def _swap_all(table: TableClient, row: Mapping[str, Any], etag: str | None, others: Sequence[Any]) -> Row | None:
    """Replace the row as `swap` does, with others of its partition; return None also if an answer was lost."""
    from azure.data.tables import TableTransactionError

    first = ("update", row, {"mode": "replace", "etag": etag}) if etag else ("create", row)
    try:
        written = transact(table, [first, *others])
    except TableTransactionError as error:
        if error.status_code not in LOST:
            raise
        return None
    return Row(row, str(written[0]["etag"]))


def put(table: TableClient, row: Mapping[str, Any]) -> None:
    """Replace the row, or create it."""
    table.upsert_entity(row, mode="replace")  # type: ignore[arg-type]


def merge(table: TableClient, row: Mapping[str, Any]) -> None:
    """Set these columns of the row and keep its others, or create it."""
    table.upsert_entity(row)


def update(table: TableClient, row: Mapping[str, Any]) -> bool:
    """Set these columns of a row and keep its others; return False if there is no row."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        table.update_entity(row)
    except ResourceNotFoundError:
        return False
    return True


def delete(table: TableClient, partition: str, key: str, etag: str | None = None) -> bool:
    """Delete the row, with `etag` only if it is still as it was then; return True if it is gone now."""
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceModifiedError

    guard: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
    try:
        table.delete_entity(partition, key, **guard)
    except ResourceModifiedError:
        return False
    return True


def page(table: TableClient, query: str, start: str | None, limit: int) -> tuple[list[Mapping[str, Any]], str | None]:
    """
    Return up to `limit` rows that meet a query, from `start` on, and where the next page starts: None at the end.

    A page may be short, or empty, although there is more: the service stops looking after a while.
    """
    found = table.query_entities(query, results_per_page=min(limit, _PAGE))
    pages: Any = found.by_page(json.loads(start) if start else None)
    for _ in range(_PAGES):
        part = list(next(pages, ()))
        if part or not pages.continuation_token:
            break
    return part, json.dumps(pages.continuation_token) if pages.continuation_token else None


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time from `first`, or from the beginning for None, to before `last`."""

    first: datetime | None
    last: datetime

    def condition(self, column: str) -> str:
        """Return the condition on a column with a time."""
        since = f"{column} ge datetime'{iso(self.first)}' and " if self.first else ""
        return f"({since}{column} lt datetime'{iso(self.last)}')"


@dataclass(slots=True)
class Allowance:
    """The time that a run has, by time.monotonic(); `dry` only counts, `complete` is False once it ends early."""

    until: float
    dry: bool = False
    complete: bool = True


def expire_rows(
    table: TableClient,
    condition: str,
    allowance: Allowance,
    *,
    select: Sequence[str] = (),
    by: Callable[[Sequence[Any]], None] | None = None,
) -> int:
    """
    Delete the rows that meet a condition, a partition of a page at a time, and return their number.

    `by` takes the place of delete_keys. Some rows are deleted even if no time is left, so that each run gets on.
    """
    query = table.query_entities(condition, select=["PartitionKey", "RowKey", *select], results_per_page=_PAGE)
    count = 0
    for part in query.by_page():
        for _, group in groupby(part, itemgetter("PartitionKey")):
            found = list(group)
            if not allowance.dry:
                (by or partial(delete_keys, table))(found)
            count += len(found)
            if time.monotonic() > allowance.until:
                allowance.complete = False
                return count
    return count


def delete_keys(table: TableClient, found: Sequence[Mapping[str, Any]]) -> None:
    """Delete rows of one partition, a hundred at a time; rows that are gone already are no error."""
    from azure.core.exceptions import HttpResponseError

    for start in range(0, len(found), IN_BATCH):
        batch = found[start : start + IN_BATCH]
        try:
            transact(table, [("delete", row) for row in batch])
        except HttpResponseError as error:
            if error.status_code not in LOST:
                raise
            for row in batch:
                delete(table, row["PartitionKey"], row["RowKey"])


def transact(table: TableClient, operations: Sequence[Any]) -> list[Mapping[str, Any]]:
    """
    Write rows of one partition as a whole, and return the metadata of each.

    Operations are spelled as the SDK's are; its own entities and MIME messages would cost ten times the CPU. Raises the
    SDK's TableTransactionError with one of LOST. A retry after a lost response conflicts with the first write.
    """
    from azure.core.rest import HttpRequest

    account = f"{table.scheme}://{table._primary_hostname}"
    requests = [_part(f"{account}/{table.table_name}", *operation) for operation in operations]
    parts = "".join([f"--changeset_0\r\n{request}\r\n" for request in requests])
    inner = f"Content-Type: multipart/mixed; boundary=changeset_0\r\n\r\n{parts}--changeset_0--"
    headers = {
        "x-ms-version": table.api_version,
        "DataServiceVersion": "3.0",
        "MaxDataServiceVersion": "3.0;NetFx",
        "Content-Type": "multipart/mixed; boundary=batch_0",
        "Accept": "application/json",
    }
    content = f"--batch_0\r\n{inner}\r\n--batch_0--\r\n".encode()
    request = HttpRequest("POST", f"{account}/$batch", headers=headers, content=content)
    # Not streamed, the answer would be read as JSON.
    response = table._client.send_request(request, stream=True)
    text = response.read().decode(errors="replace")
    if response.status_code != _ACCEPTED:
        raise _failure(response.status_code, text)
    metadata: list[Mapping[str, Any]] = []
    for answer in text.split("HTTP/1.1 ")[1:]:
        if (status := int(answer[:3])) >= _FIRST_ERROR:
            raise _failure(status, answer)
        etag = _ETAG.search(answer)
        metadata.append({"etag": etag[1] if etag else None})
    return metadata


def _part(table: str, kind: str, row: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> str:
    """Return the request of one operation; an update or delete without an ETag needs a row of any ETag."""
    options, url = options or {}, table
    if kind != "create":
        partition, key = row["PartitionKey"].replace("'", "''"), row["RowKey"].replace("'", "''")
        url += f"(PartitionKey='{quote(partition, safe='')}',RowKey='{quote(key, safe='')}')"
    method = _METHODS.get(kind) or _METHODS[options.get("mode", "merge")]
    match = f"If-Match: {options.get('etag') or '*'}\r\n" if kind in ("update", "delete") else ""
    head = (
        f"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{method} {url} HTTP/1.1\r\n"
        f"DataServiceVersion: 3.0\r\nAccept: application/json;odata=minimalmetadata\r\n{match}"
    )
    if kind == "delete":
        return f"{head}\r\n"
    body = _encode(_columns(row))
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def _columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns with the types that JSON does not show; those that are None are left out."""
    columns: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, str) or (isinstance(value, int) and abs(value) <= _LARGEST_INT32):
            columns[name] = value
            continue
        if value is None:
            continue
        if isinstance(value, datetime):
            # A time that was read from a table may be finer than a datetime.
            text, kind = getattr(value, "tables_service_value", None) or iso(value), "Edm.DateTime"
        elif isinstance(value, tuple):
            # An EntityProperty, of 64 bits.
            text, kind = str(value[0]), value[1]
        elif isinstance(value, bytes):
            text, kind = b64encode(value).decode(), "Edm.Binary"
        elif isinstance(value, float):
            text, kind = value, "Edm.Double"
        else:
            raise TypeError(f"column {name} is of a type or size that a table does not know")
        columns[name], columns[f"{name}@odata.type"] = text, kind
    return columns


def _failure(status: int, text: str) -> Exception:
    """Return the SDK's error for a refused batch: its message begins with the index of the operation at fault."""
    from azure.data.tables import TableTransactionError

    if status in OVERLOADED:
        return StorageUnavailable("storage is overloaded")
    try:
        details = json.loads(text[text.index("{") : text.rindex("}") + 1])["odata.error"]
        code, message = str(details["code"]), str(details["message"]["value"])
    except (ValueError, KeyError, TypeError):
        code, message = "", f"a transaction was answered {status}"
    error: Any = TableTransactionError(message=message)
    error.status_code, error.error_code = status, code
    return error  # type: ignore[no-any-return]
