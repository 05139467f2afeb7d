"""Table `dials`: claims of the calls dialled through the API, so that none rings twice, and the hourly count."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared import people
from shared.errors import DIAL_IN_PROGRESS, DIAL_LIMIT, DIAL_UNCERTAIN, KEY_REUSED, BridgeError, Refused
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.rows import Allowance, Period, expire_rows
from shared.times import now

logger = logging.getLogger(__name__)

TABLE = "dials"
# Long enough for four retries of Logic Apps, each after a wait of two minutes and a pause of 45 s.
UNCERTAIN_WINDOW = timedelta(minutes=15)
# A claim this old without an outcome belongs to a process that has died.
_RINGING = timedelta(seconds=90)
_WAIT_SECONDS, _LOOK_SECONDS = 20.0, 0.25
# The count's partition and row. Claims have partitions of two hexadecimal digits.
LIMIT, _RINGS = "limit", "rings"
_MINUTES = 60

Answer = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request for a call: keyed hashes of request and call, its subjects, and how long repeats get its answer."""

    id: str
    call: str
    subjects: tuple[str, ...]
    keep: timedelta


def claim(storage: Storage, request: Request, limit: int) -> Answer | None:
    """
    Claim and count a request; return None for a new request, or the stored answer for a repeat.

    Raises Refused: KEY_REUSED for a key of another call, DIAL_UNCERTAIN if the PBX did not say whether the call rang,
    DIAL_IN_PROGRESS if the first request has no answer after twenty seconds, and DIAL_LIMIT if all processes together
    dialled `limit` calls in the last hour.
    """
    table, until = storage.table(TABLE), time.monotonic() + _WAIT_SECONDS
    while True:
        claimed = rows.get(table, request.id[:2], request.id)
        if claimed is None or claimed["until"] <= now():
            people.add(storage, [(subject, people.Pointer("dial", request.id, now())) for subject in request.subjects])
            # A process that dies while it rings leaves its claim behind.
            fresh = _row(request, "ringing", max(request.keep, UNCERTAIN_WINDOW))
            if rows.swap(table, fresh, claimed.etag if claimed else None):
                try:
                    _count(storage, 1, limit)
                except BridgeError:
                    rows.delete(table, request.id[:2], request.id)
                    raise
                return None
            continue
        if claimed["call"] != request.call:
            raise Refused(KEY_REUSED)
        if claimed["state"] == "rang":
            return dict(json.loads(claimed["answer"]))
        if claimed["state"] != "ringing" or now() - claimed["since"] >= _RINGING:
            raise Refused(DIAL_UNCERTAIN)
        if time.monotonic() > until:
            raise Refused(DIAL_IN_PROGRESS, retry_after=2)
        threading.Event().wait(_LOOK_SECONDS)


def complete(storage: Storage, request: Request, answer: Answer | None) -> None:
    """Store the answer of a call that rang, or None for one that may have rung."""
    if answer is None:
        row = _row(request, "uncertain", max(request.keep, UNCERTAIN_WINDOW))
    else:
        row = _row(request, "rang", request.keep) | {"answer": json.dumps(answer)}
    rows.put(storage.table(TABLE), row)


def release(storage: Storage, request: Request) -> None:
    """Delete the claim of a call that did not ring, and take it off the count."""
    _count(storage, -1)
    rows.delete(storage.table(TABLE), request.id[:2], request.id)


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the claims whose answers were kept until a time within a period."""
    query = f"PartitionKey ne '{LIMIT}' and {period.condition('until')}"
    return expire_rows(storage.table(TABLE), query, allowance)


def _row(request: Request, state: str, keep: timedelta) -> dict[str, Any]:
    moment = now()
    keys = {"PartitionKey": request.id[:2], "RowKey": request.id}
    return keys | {"call": request.call, "state": state, "since": moment, "until": moment + keep}


def _count(storage: Storage, more: int, limit: int | None = None) -> None:
    """Add a call (1) to the last hour's counts by minute, or take the newest off (-1)."""
    minute = int(time.time() // 60)

    def counted(row: Mapping[str, Any] | None) -> dict[str, Any]:
        stored = json.loads(row["minutes"]) if row is not None else {}
        counts = {int(at): number for at, number in stored.items() if minute - _MINUTES < int(at) and number > 0}
        if limit is not None and sum(counts.values()) >= limit:
            logger.warning("signal dial_limit reason=%d calls in an hour", limit)
            free = (min(counts, default=minute) + _MINUTES) * 60
            raise Refused(DIAL_LIMIT, retry_after=max(free - int(time.time()), 1))
        at = minute if more > 0 else max(counts, default=minute)
        return {"minutes": json.dumps(counts | {at: counts.get(at, 0) + more})}

    rows.change(storage.table(TABLE), LIMIT, _RINGS, counted)
