"""Polled calls, recordings and voicemails that are old enough to go, and what was removed long ago of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.items.head import TABLE
from shared.items.index import KINDS
from shared.items.intake import Intake
from shared.items.reader import ARRIVAL
from shared.pbx.resources import RESOURCES
from shared.storage.expiry import Expired, expire_rows
from shared.storage.rows import row_key
from shared.times import MICROSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Period, Row


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """
    Delete the items that began within a period, and the marks of what arrived in it.

    Of what can be edited, only what the PBX has removed goes, once it was last seen within the period.
    """
    found = Expired()
    for row in RESOURCES:
        old = _began(period) if row.name in KINDS else f"removed eq true and {period.condition('lastSeen')}"
        found += _expire_items(storage, row.name, old, allowance)
        low = f"{ARRIVAL}{_sequence(period.first):020d}" if period.first else ARRIVAL
        marks = (
            f"PartitionKey eq '{row.name}' and RowKey ge '{low}' and RowKey lt '{ARRIVAL}{_sequence(period.last):020d}'"
        )
        found += expire_rows(storage.table(TABLE), marks, allowance, name=f"arrivals of {row.name}")
    return found


def _began(period: Period) -> str:
    return period.condition("began") + ("" if period.first else f" or {period.condition('firstSeen')}")


def _expire_items(storage: Storage, resource: str, old: str, allowance: Allowance) -> Expired:
    def delete(found: Sequence[Row]) -> None:
        # Out of the head, too: writers of a resource take turns there.
        Intake(storage, resource).forget({int(row["RowKey"]): not row.get("removed") for row in found})

    query = f"PartitionKey eq '{resource}' and RowKey ge '{row_key(0)}' and RowKey lt ':' and ({old})"
    name = f"items of {resource}"
    return expire_rows(storage.table(TABLE), query, allowance, name=name, select=("removed",), delete=delete)


def _sequence(moment: datetime) -> int:
    return max(int(moment.timestamp()) * MICROSECONDS_PER_SECOND, 0)
