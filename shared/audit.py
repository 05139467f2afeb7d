"""Table `audit`: one row for each change by a person or a key, newest first."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import islice
from typing import Any

from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.rows import Allowance, Period, expire_rows
from shared.times import iso, newest_first, now

TABLE = "audit"
PARTITION = "audit"
# The author of changes made with the master key, which has no person's name.
MASTER_KEY = "master key"
_COLUMNS = ("at", "who", "what", "count", "result", "note")


def record(storage: Storage, *, who: str, what: str, count: int, result: str, note: str = "") -> None:
    """Write a row: the person or key, the operation, the number of things changed, and the outcome in a word."""
    moment = now()
    key = f"{newest_first(moment)}-{secrets.token_hex(4)}"
    row = {"at": moment, "who": who, "what": what, "count": count, "result": result, "note": note}
    rows.put(storage.table(TABLE), {"PartitionKey": PARTITION, "RowKey": key, **row})


def listed(storage: Storage, limit: int) -> list[dict[str, Any]]:
    """Return the newest rows as JSON values, at most `limit`."""
    found = storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}'", results_per_page=min(limit, 1000))
    return [{name: row[name] for name in _COLUMNS} | {"at": iso(row["at"])} for row in islice(found, limit)]


def clear_notes(storage: Storage, matches: Callable[[str], bool]) -> int:
    """Blank each note that `matches`, and return their number."""
    found = list(storage.table(TABLE).query_entities(f"PartitionKey eq '{PARTITION}' and note ne ''"))
    matching = [row for row in found if matches(row["note"])]
    for row in matching:
        rows.update(storage.table(TABLE), {"PartitionKey": PARTITION, "RowKey": row["RowKey"], "note": ""})
    return len(matching)


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the rows of changes made within a period."""
    return expire_rows(storage.table(TABLE), f"PartitionKey eq '{PARTITION}' and {period.condition('at')}", allowance)
