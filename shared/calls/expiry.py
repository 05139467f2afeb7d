"""Calls that are old enough to go, and cases whose last event is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.calls import cases
from shared.calls.store import PARTITION, TABLE
from shared.storage.expiry import expire_rows
from shared.storage.rows import row_key
from shared.times import FIRST_CLOCK_ID, MICROSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """Delete the stories of calls that began within a period; a callID that is a plain counter does not tell when."""
    first = _id_at(period.first) if period.first else FIRST_CLOCK_ID
    spelt = f"RowKey ge '{row_key(first)}' and RowKey lt '{row_key(_id_at(period.last))}'"
    # What nobody has written to since then is as old, whether or not it says when it began.
    old = period.condition("started") + ("" if period.first else f" or {period.condition('Timestamp')}")
    counted = f"RowKey lt '{row_key(FIRST_CLOCK_ID)}' and ({old})"
    table, found = storage.table(TABLE), f"PartitionKey eq '{PARTITION}' and "
    return expire_rows(table, found + spelt, allowance, name="calls by key") + expire_rows(
        table, found + counted, allowance, name="calls by start"
    )


def calls_between(storage: Storage, period: Period, token: Any, limit: int) -> tuple[list[Mapping[str, Any]], Any]:
    """Rows of calls that began within a period, up to a page of them, and the token of the next page."""
    first = _id_at(period.first) if period.first else FIRST_CLOCK_ID
    spelt = f"(RowKey ge '{row_key(first)}' and RowKey lt '{row_key(_id_at(period.last))}')"
    counted = f"(RowKey lt '{row_key(FIRST_CLOCK_ID)}' and {period.condition('started')})"
    query = f"PartitionKey eq '{PARTITION}' and ({spelt} or {counted})"
    pages: Any = storage.table(TABLE).query_entities(query, results_per_page=limit).by_page(token)
    found = list(next(pages, ()))
    return found, pages.continuation_token


def expire_cases(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """Delete the cases whose last event came within a period: nobody closes those that the PBX forgot at midnight."""
    return expire_rows(storage.table(cases.TABLE), period.condition("at"), allowance)


def _id_at(moment: datetime) -> int:
    return max(int(moment.timestamp()) * MICROSECONDS_PER_SECOND, FIRST_CLOCK_ID)
