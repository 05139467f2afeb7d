"""Table `parties`: what calls, recordings, voicemails and lost callers a number or an employee has to do with."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from shared.once import once
from shared.phones import e164
from shared.storage import rows
from shared.storage.expiry import IN_BATCH, expire_rows
from shared.storage.rows import row_key
from shared.times import newest_first

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period

TABLE = "parties"
PARTITION = "party"
_KEY_PARTITION, _COVERED = "key", "covered"
_NO_DIGIT = re.compile(r"[^0-9]")

# No two begin alike: the first letter stands in the keys.
Kind = Literal["call", "recording", "voicemail", "lost caller"]


@dataclass(frozen=True, slots=True)
class Entry:
    """That somebody has to do with a call, recording, voicemail or lost caller: what it is, its id, when it began."""

    kind: Kind
    id: str
    moment: datetime


def number_party(number: str | None, region: str) -> str:
    """A number as a party: the same however it is written; withheld ones, by any word, are one party."""
    return f"number {e164(number, region) or _NO_DIGIT.sub('', number or '')}"


def contact_party(contact_id: int) -> str:
    """An employee as a party."""
    return f"contact {contact_id}"


def party_hash(storage: Storage, party: str) -> str:
    """
    How keys of what a party has to do with begin: a keyed hash, as keys stand in addresses and logs.

    The key is made once for each account, and stands in table `parties` alone: without it no number can be tried out.
    """
    return hmac.new(_key(storage), party.encode(), hashlib.sha256).hexdigest()[:40]


def add(storage: Storage, parties: Iterable[tuple[str, Entry]]) -> None:
    """Note who has to do with what; noting it again changes nothing. A hundred cost one storage operation."""
    found = {_row_key(storage, party, entry): entry for party, entry in parties}
    operations = [
        ("upsert", {"PartitionKey": PARTITION, "RowKey": key, "began": entry.moment}, {"mode": "replace"})
        for key, entry in found.items()
    ]
    for start in range(0, len(operations), IN_BATCH):
        rows.transact(storage.table(TABLE), operations[start : start + IN_BATCH])


def entries(
    storage: Storage, party: str, kind: Kind, *, limit: int, first: datetime | None = None, last: datetime | None = None
) -> list[Entry]:
    """
    What a party has to do with, newest first, of what began between two times, both included; at most `limit`.

    One storage operation for up to a thousand.
    """
    begin = f"{party_hash(storage, party)}-{kind[0]}"
    low = f"{begin}{_position(last)}" if last else begin
    high = f"{begin}{_position(first)}~" if first else f"{begin}~"
    query = f"PartitionKey eq '{PARTITION}' and RowKey ge '{low}' and RowKey lt '{high}'"
    found = storage.table(TABLE).query_entities(query, results_per_page=min(limit, 1000))
    return [
        Entry(kind, row["RowKey"][len(begin) + 17 :].lstrip("0") or "0", row["began"]) for row in islice(found, limit)
    ]


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """Delete what is noted of people in calls, recordings, voicemails and lost callers that began within a period."""
    query = f"PartitionKey eq '{PARTITION}' and {period.condition('began')}"
    return expire_rows(storage.table(TABLE), query, allowance)


# The lists of an account that are known to be indexed.
_covered = once(lambda storage: set[str]())


def cover(storage: Storage, what: str) -> None:
    """Note that from its first row on all of this list is indexed; for whoever is about to write that row."""
    rows.insert(storage.table(TABLE), {"PartitionKey": _COVERED, "RowKey": what})


def covers(storage: Storage, what: str) -> bool:
    """Whether all of this list is indexed: what was stored by versions without an index has to be looked through."""
    known = _covered(storage)
    if what not in known and rows.get(storage.table(TABLE), _COVERED, what) is not None:
        known.add(what)
    return what in known


def _row_key(storage: Storage, party: str, entry: Entry) -> str:
    id = row_key(int(entry.id)) if entry.id.isdecimal() else entry.id
    return f"{party_hash(storage, party)}-{entry.kind[0]}{_position(entry.moment)}-{id}"


def _position(moment: datetime) -> str:
    """To the second, as times of the same call differ by less."""
    return newest_first(moment.replace(microsecond=0))


@once
def _key(storage: Storage) -> bytes:
    """The key of the hashes, made by whoever needs it first and the same for all from then on."""
    table = storage.table(TABLE)
    row = rows.get(table, _KEY_PARTITION, _KEY_PARTITION)
    if row is None:
        rows.insert(table, {"PartitionKey": _KEY_PARTITION, "RowKey": _KEY_PARTITION, "key": secrets.token_hex(32)})
        row = rows.get(table, _KEY_PARTITION, _KEY_PARTITION)
    if row is None:
        raise LookupError("the key of table parties went away while it was read")
    return bytes.fromhex(row["key"])
