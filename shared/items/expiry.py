"""Polled calls, recordings and voicemails that are old enough to go, and what was removed long ago of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.items.head import ARRIVAL, TABLE, stamp
from shared.items.index import KINDS
from shared.items.intake import Intake
from shared.pbx.resources import RESOURCES
from shared.storage.expiry import Expired, expire_rows
from shared.storage.rows import row_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Period, Row


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """
    Delete the items that began within a period, and the marks of what arrived in it.

    Of what can be edited, only what the PBX has removed goes, once it was last seen within the period.
    """
    found = Expired()
    began = period.condition("began") + ("" if period.first else f" or {period.condition('firstSeen')}")
    for row in RESOURCES:
        old = began if row.name in KINDS else f"removed eq true and {period.condition('lastSeen')}"
        found += _expire_items(storage, row.name, old, allowance)
        low, high = ARRIVAL + (stamp(period.first) if period.first else ""), ARRIVAL + stamp(period.last)
        marks = f"PartitionKey eq '{row.name}' and RowKey ge '{low}' and RowKey lt '{high}'"
        found += expire_rows(storage.table(TABLE), marks, allowance, name=f"arrivals of {row.name}")
    return found


def _expire_items(storage: Storage, resource: str, old: str, allowance: Allowance) -> Expired:
    def delete(found: Sequence[Row]) -> None:
        # Out of the head, too: writers of a resource take turns there.
        Intake(storage, resource).forget({int(row["RowKey"]): not row.get("removed") for row in found})

    query = f"PartitionKey eq '{resource}' and RowKey ge '{row_key(0)}' and RowKey lt ':' and ({old})"
    name = f"items of {resource}"
    return expire_rows(storage.table(TABLE), query, allowance, name=name, select=("removed",), delete=delete)
