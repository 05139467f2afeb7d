"""What was delivered long ago, and what has waited in vain as long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.deliveries.outbox import TABLE
from shared.deliveries.places import MARKER, PLACE, position
from shared.deliveries.state import KEY
from shared.storage.expiry import expire_rows

if TYPE_CHECKING:
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """
    Delete the markers that were written within a period, and the places of events that came in within it.

    A state goes where nobody has drained since: it may be of a subscription that ended, and says little of another one.
    """
    low, high = (f"{PLACE}{position(moment) if moment else ''}" for moment in (period.first, period.last))
    markers = f"RowKey ge '{MARKER}' and RowKey lt '{MARKER}~' and {period.condition('at')}"
    state = f"RowKey eq '{KEY}' and {period.condition('until')}"
    query = f"({markers}) or ({state}) or (RowKey ge '{low}' and RowKey lt '{high}')"
    return expire_rows(storage.table(TABLE), query, allowance)
