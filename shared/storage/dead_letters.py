"""Dead letters: everything that could not be used, kept with its reason until somebody looks."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared.storage import rows
from shared.storage.expiry import expire_rows
from shared.storage.messages import LONGEST_IN_ROW, put_payload
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.data.tables import TableEntity

    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Period
    from shared.storage.rows import Row

logger = logging.getLogger(__name__)

TABLE = "deadletters"


def dead_letter(storage: Storage, *, kind: str, id: str, reason: str, body: bytes, attempts: int = 1) -> None:
    """
    Keep a body that could not be used: one row for each (kind, id), with reason, attempts, first and last time.

    `id` names the work, so that two pieces of work never share a row. The body stands in the row, or in a blob of
    container `payloads` where it is over 32 KiB or no UTF-8. Another dead letter of the same work adds up the attempts
    and keeps the first time. Raises StorageUnavailable.
    """
    moment = now()
    columns: dict[str, Any] = {"kind": kind, "id": id, "reason": reason, "last": moment, "size": len(body)}
    text = body.decode(errors="replace")
    if len(body) > LONGEST_IN_ROW or text.encode() != body:
        columns["payload"] = put_payload(storage, f"{TABLE}/{kind}/{id}", body)
    else:
        columns["body"] = text

    def added(before: Row | None) -> Mapping[str, Any]:
        earlier: Mapping[str, Any] = before or {"first": moment, "attempts": 0}
        return {**columns, "first": earlier["first"], "attempts": earlier["attempts"] + attempts}

    rows.change(storage.table(TABLE), kind, id, added)
    logger.warning("signal dead_letter kind=%s id=%s reason=%s attempts=%d", kind, id, reason, attempts)


def listed(
    storage: Storage, *, kind: str | None = None, id: str | None = None, start: str = "", limit: int
) -> list[TableEntity]:
    """Return the rows of dead letters of a kind and id, or of any; at most `limit`, from `start` (a kind/id) on."""
    first, _, rest = start.partition("/")
    after = "( PartitionKey gt @first or PartitionKey eq @first and RowKey ge @rest )" if start else None
    asked = ("PartitionKey eq @kind" if kind is not None else None, "RowKey eq @id" if id is not None else None, after)
    query = " and ".join(filter(None, asked)) or "PartitionKey ne ''"
    values = {"kind": kind or "", "id": id or "", "first": first, "rest": rest}
    return list(islice(storage.table(TABLE).query_entities(query, parameters=values, results_per_page=limit), limit))


def remove(storage: Storage, dead: TableEntity) -> None:
    """Delete a dead letter, unless it has been added to since it was listed."""
    rows.delete(storage.table(TABLE), dead["PartitionKey"], dead["RowKey"], etag=dead.metadata["etag"])


def kinds(storage: Storage, limit: int) -> Counter[str]:
    """Return the number of dead letters of each kind, among the first `limit`."""
    found = storage.table(TABLE).list_entities(select=["PartitionKey"])
    return Counter(row["PartitionKey"] for row in islice(found, limit))


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the dead letters that were last added to within a period."""
    return expire_rows(storage.table(TABLE), period.condition("last"), allowance)


def dead_letter_refused(storage: Storage, event: str, reason: str, body: bytes) -> None:
    """
    Keep what an authenticated caller sent and we refused; the same body sent again is the same row.

    Empty bodies may be of different messages: each has a row of its own.
    """
    name = hashlib.sha256(body).hexdigest()[:32] if body else f"empty-{secrets.token_hex(8)}"
    dead_letter(storage, kind="refused", id=f"{event}-{name}", reason=reason, body=body)
