"""Bringing the rows of subscriptions under the newest key, and saying which are not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from shared.storage import rows
from shared.subscriptions.keys import key_id
from shared.subscriptions.store import TABLE
from shared.subscriptions.subscription import KEY, PARTITION, subscription_of

if TYPE_CHECKING:
    from shared.storage.account import Storage
    from shared.subscriptions.store import Subscriptions


def reseal(known: Subscriptions, storage: Storage) -> None:
    """
    Seal again what is under an older key; what no key opens stays as it is, and is reported.

    Done twice, or by several at once, it changes nothing more.
    """
    keys, table = known.keys, storage.table(TABLE)
    keys.reseal()
    for row in _rows(storage):
        if row["key"] == keys.newest:
            continue
        one = subscription_of(row, keys)
        if one.readable:
            rows.swap(table, one.row(keys), row.metadata["etag"])
    known.forget()


def described(known: Subscriptions, storage: Storage) -> dict[str, Any]:
    """How many rows are under which key, by the id of the key, the newest first; and which subscriptions none opens."""
    keys = known.keys
    counts = Counter({key_id(key): 0 for key in keys.all})
    unreadable: list[str] = []
    for row in _rows(storage):
        counts[row["key"]] += 1
        if not subscription_of(row, keys).readable:
            unreadable.append(row["RowKey"].removeprefix(KEY))
    hashing = keys.hashing_row()
    if hashing is not None:
        counts[hashing["key"]] += 1
        unreadable += [] if keys.opens(hashing["sealed"]) else [str(hashing["RowKey"])]
    return {"newest": keys.newest, "keys": dict(counts), "unreadable": unreadable}


def _rows(storage: Storage) -> list[Any]:
    condition = f"PartitionKey eq '{PARTITION}' and RowKey ge '{KEY}' and RowKey lt '{KEY}~'"
    return list(storage.table(TABLE).query_entities(condition))
