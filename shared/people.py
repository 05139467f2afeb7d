"""
Table `numbers`: the index by phone number, employee and call of everything that contains one of them.

Table `forgotten`: tombstones of erased people and dropped months, so that what they cover is not stored again.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import time
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, get_args

from shared.storage import rows
from shared.storage.account import Storage, once
from shared.storage.rows import IN_BATCH, Allowance, Period, Row, delete_keys, expire_rows
from shared.times import newest_first, now
from shared.values import e164

if TYPE_CHECKING:
    from azure.data.tables import TableClient

TABLE, FORGOTTEN = "numbers", "forgotten"
# One partition, so that a hundred pointers of any subjects are one transaction.
PARTITION = "number"
_KEY = "key"
# The numbers of events and items.
_NUMBER_FIELDS = ("caller", "callerid", "sender", "destination")
_NO_DIGIT = re.compile(r"[^0-9]")
# The service scans a range from first key to last: rows are read in so many ranges, cut at the widest gaps.
_SPANS = 4
# The subject of events and items that may have a number in a field that is not indexed; an erasure reads them all.
LOOSE = "loose"
_FEWEST_DIGITS = 6
_DIGITS = re.compile(r"\+?[0-9][0-9\s().\-/]{4,40}[0-9]")
# A filter has fifteen comparisons at most, three of them for the range.
_IN_FILTER = 12
_AT_ONCE = 8
_PAGE = 1000

# Partitions of table `forgotten`: tombstones by subject, and the time of the latest with the dropped months.
_SUBJECT, _KNOWN = "subject", "known"
_LATEST = "latest"
# Seconds for which a process remembers the latter.
MEMORY_SECONDS = 5.0

Kind = Literal["call", "recording", "voicemail", "lost", "contact", "event", "dead", "dial"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer to a thing that contains a subject: its kind, its id, and the time it is listed under."""

    kind: Kind
    id: str
    moment: datetime

    @property
    def place(self) -> str:
        """Return the sort key among a subject's pointers, newest first; `find` continues from it."""
        # Sources of a call's start differ by less than a second; an event has one time only.
        moment = self.moment if self.kind == "event" else self.moment.replace(microsecond=0)
        id = rows.descending(int(self.id)) if self.id.isdecimal() and len(self.id) < 20 else self.id
        return f"{newest_first(moment)}-{id}"


def number(number: str | None, region: str) -> str:
    """Return the subject of a phone number: the same for every spelling, and one for all withheld numbers."""
    return f"number {e164(number, region) or _NO_DIGIT.sub('', number or '')}"


def employee(contact_id: int) -> str:
    """Return the subject of an employee."""
    return f"contact {contact_id}"


def call(call_id: int) -> str:
    """Return the subject of a call."""
    return f"call {call_id}"


def loose(sent: Mapping[str, Any], drift: Collection[str], region: str) -> set[str]:
    """
    Return the subjects in fields that are not indexed: numbers in fields unknown to the reference, or within a text.

    LOOSE is among them if a value has six digits or more; otherwise there are none.
    """
    found: set[str] = set()
    for name in {*_NUMBER_FIELDS, *drift}:
        value = sent.get(name.partition(".")[0])
        if not value or (name in _NUMBER_FIELDS and name not in drift and e164(str(value), region)):
            continue
        text = unicodedata.normalize("NFKC", str(value))
        if len(_NO_DIGIT.sub("", text)) >= _FEWEST_DIGITS:
            found |= {LOOSE, *(number(digits, region) for digits in _DIGITS.findall(text))}
    return found


def digest(storage: Storage, subject: str) -> str:
    """
    Return the keyed hash of a subject, for keys and ids, which are visible in addresses and logs.

    The key is made once an account and never leaves it, so that nobody can find a number by trying all numbers.
    """
    return hmac.new(_key(storage), subject.encode(), hashlib.sha256).hexdigest()[:40]


def add(storage: Storage, pointers: Iterable[tuple[str, Pointer]]) -> None:
    """
    Store pointers, each with its subject, a hundred a transaction; twice is harmless.

    Call it before the thing itself is written: then a death in between leaves a pointer to nothing, which every reader
    skips, and never a thing without pointers.
    """
    from azure.data.tables import TableTransactionError

    operations: dict[str, Any] = {}
    for subject, pointer in pointers:
        row = _row(storage, subject, pointer) | {"id": pointer.id, "moment": pointer.moment}
        operations[row["RowKey"]] = "upsert", row, {"mode": "replace"}
    table, made = storage.table(TABLE), list(operations.values())
    for start in range(0, len(made), IN_BATCH):
        part = made[start : start + IN_BATCH]
        if len(part) == IN_BATCH:
            # A hundred at once are new, as a rule, and the emulator creates rows six times as fast as it replaces them.
            try:
                rows.transact(table, [("create", row) for _, row, _ in part])
                continue
            except TableTransactionError as error:
                if error.status_code not in rows.LOST:
                    raise
        rows.transact(table, part)


def add_dead_letter(storage: Storage, region: str, kind: str, id: str, record: Any) -> None:
    """Point from the numbers in a record to its dead letter, named by kind and id, before that is written."""
    numbers = [record.get(name) for name in _NUMBER_FIELDS] if isinstance(record, dict) else []
    pointer = Pointer("dead", f"{kind}-{id}", now())
    add(storage, [(number(value, region), pointer) for value in numbers if isinstance(value, str) and value.strip()])


def find(
    storage: Storage,
    subject: str,
    kinds: Collection[Kind] = KINDS,
    *,
    limit: int | None = None,
    first: datetime | None = None,
    last: datetime | None = None,
    start: str | None = None,
) -> list[Pointer]:
    """
    Return the pointers of a subject, newest first, from `first` to `last` (both included).

    `start` is a `Pointer.place` to continue from. Up to a thousand pointers of a kind take one request.
    """
    pointers: list[Pointer] = []
    for kind in kinds:
        begin = f"{digest(storage, subject)}-{kind}-"
        low = max(start or "", Pointer(kind, "", last).place if last else "")
        high = Pointer(kind, "", first).place if first else ""
        query = f"PartitionKey eq '{PARTITION}' and RowKey ge '{begin}{low}' and RowKey lt '{begin}{high}~'"
        listed = storage.table(TABLE).query_entities(query, results_per_page=min(limit or _PAGE, _PAGE))
        pointers += [Pointer(kind, row["id"], row["moment"]) for row in islice(listed, limit)]
    return sorted(pointers, key=lambda pointer: pointer.place)[:limit]


def remove(storage: Storage, pointers: Iterable[tuple[str, Pointer]]) -> None:
    """Delete pointers, a hundred a transaction; pointers that are gone already are no error."""
    delete_keys(storage.table(TABLE), [_row(storage, subject, pointer) for subject, pointer in pointers])


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the pointers whose time is within a period."""
    query = f"PartitionKey eq '{PARTITION}' and {period.condition('moment')}"
    return expire_rows(storage.table(TABLE), query, allowance)


def rows_of(table: TableClient, partition: str, wanted: Sequence[tuple[str, datetime]]) -> dict[str, Row]:
    """
    Return the rows that pointers lead to, by key, of a table whose keys descend; `wanted` has keys with their times.

    Neighbours are read as one span of at most twelve rows: four requests and one for each twelve rows, side by side,
    however many rows lie between.
    """
    ordered = sorted(wanted)
    gaps = sorted(range(1, len(ordered)), key=lambda at: ordered[at - 1][1] - ordered[at][1], reverse=True)
    cuts, spans = set(gaps[: _SPANS - 1]), list[list[str]]()
    for at, (key, _) in enumerate(ordered):
        if not spans or at in cuts or len(spans[-1]) == _IN_FILTER:
            spans.append([])
        spans[-1].append(key)

    def read(keys: list[str]) -> list[Row]:
        span = f"PartitionKey eq '{partition}' and RowKey ge '{keys[0]}' and RowKey le '{keys[-1]}'"
        chosen = " or ".join(f"RowKey eq '{key}'" for key in keys)
        return [rows.Row(row, str(row.metadata["etag"])) for row in table.query_entities(f"{span} and ({chosen})")]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return {row["RowKey"]: row for part in pool.map(read, spans) for row in part}


def forget(storage: Storage, subjects: Collection[str], moment: datetime) -> None:
    """Store tombstones: things of these subjects that began up to this moment are not stored again."""
    keys = [{"PartitionKey": _SUBJECT, "RowKey": digest(storage, subject)} for subject in sorted(subjects)]
    for start in range(0, len(keys), IN_BATCH):
        part = [("upsert", {**key, "until": moment}, {"mode": "replace"}) for key in keys[start : start + IN_BATCH]]
        rows.transact(storage.table(FORGOTTEN), part)

    def later(row: Row | None) -> dict[str, Any]:
        return {"until": moment if row is None else max(row["until"], moment)}

    rows.change(storage.table(FORGOTTEN), _KNOWN, _LATEST, later)
    _memory(storage).clear()


def drop_month(storage: Storage, month: str) -> None:
    """Store that a month (`yyyy-mm`, UTC) is dropped: items that the PBX still lists of it are not stored again."""
    rows.put(storage.table(FORGOTTEN), {"PartitionKey": _KNOWN, "RowKey": month})
    _memory(storage).clear()


def is_dropped(storage: Storage, month: str) -> bool:
    """Return True if a month was dropped."""
    return month in _known(storage)


def is_before(storage: Storage, moment: datetime, *, fresh: bool = False) -> bool:
    """
    Return True if the latest tombstone covers this moment, so that subjects have to be looked up.

    `fresh` reads also the tombstones of the last seconds.
    """
    latest = _known(storage, fresh=fresh).get(_LATEST)
    return latest is not None and moment <= latest


def is_forgotten(storage: Storage, subjects: Collection[str], moment: datetime, *, fresh: bool = False) -> bool:
    """
    Return True if a thing of these subjects that began at this moment was erased.

    No subject is looked up for a moment after the latest tombstone.
    """
    if not is_before(storage, moment, fresh=fresh):
        return False
    tombstones = (rows.get(storage.table(FORGOTTEN), _SUBJECT, digest(storage, subject)) for subject in subjects)
    return any(row is not None and moment <= row["until"] for row in tombstones)


def _known(storage: Storage, *, fresh: bool = False) -> Mapping[str, datetime | None]:
    """Return the dropped months, and under `latest` the time of the latest tombstone, read again after some seconds."""
    memory = _memory(storage)
    read, known = memory.get(_KNOWN, (-math.inf, {}))
    if fresh or time.monotonic() >= read + MEMORY_SECONDS:
        entities = storage.table(FORGOTTEN).query_entities(f"PartitionKey eq '{_KNOWN}'")
        known = {row["RowKey"]: row.get("until") for row in entities}
        memory[_KNOWN] = time.monotonic(), known
    return known


@once
def _memory(storage: Storage) -> dict[str, tuple[float, dict[str, datetime | None]]]:
    return {}


def _row(storage: Storage, subject: str, pointer: Pointer) -> dict[str, Any]:
    return {"PartitionKey": PARTITION, "RowKey": f"{digest(storage, subject)}-{pointer.kind}-{pointer.place}"}


@once
def _key(storage: Storage) -> bytes:
    """Return the key of the hashes; the first process to need it makes it for all."""
    table = storage.table(TABLE)
    row = rows.get(table, _KEY, _KEY)
    if row is None:
        rows.insert(table, {"PartitionKey": _KEY, "RowKey": _KEY, "key": secrets.token_hex(32)})
        row = rows.get(table, _KEY, _KEY)
    if row is None:
        raise LookupError("the key of table numbers went away while it was read")
    return bytes.fromhex(row["key"])
