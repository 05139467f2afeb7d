"""Dead letters: everything that could not be used, kept with its reason until somebody looks."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from shared.storage.messages import LONGEST_IN_ROW, put_payload
from shared.times import now

if TYPE_CHECKING:
    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

TABLE = "deadletters"


def dead_letter(storage: Storage, *, kind: str, id: str, reason: str, body: bytes, attempts: int = 1) -> None:
    """
    Keep a body that could not be used: one row for each (kind, id), with reason, attempts, first and last time.

    The body stands in the row, or in a blob of container `payloads` where it is over 32 KiB or no UTF-8. Burying
    it again adds up the attempts and keeps the first time.
    """
    from azure.core.exceptions import ResourceNotFoundError

    table, moment = storage.table(TABLE), now()
    row: dict[str, Any] = {"PartitionKey": kind, "RowKey": id, "kind": kind, "id": id, "reason": reason}
    row |= {"attempts": attempts, "first": moment, "last": moment, "size": len(body)}
    text = _text(body)
    if text is None or len(body) > LONGEST_IN_ROW:
        row["payload"] = put_payload(storage, f"{TABLE}/{kind}/{id}", body)
    else:
        row["body"] = text
    try:
        before = table.get_entity(kind, id)
        row |= {"first": before["first"], "attempts": before["attempts"] + attempts}
    except ResourceNotFoundError:
        logger.debug("first dead letter of its kind and id")
    table.upsert_entity(row)
    logger.warning("signal dead_letter kind=%s id=%s reason=%s attempts=%d", kind, id, reason, row["attempts"])


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def dead_letter_refused(storage: Storage, event: str, reason: str, body: bytes) -> None:
    """Keep what an authenticated caller sent and we refused; the same body sent again is the same row."""
    dead_letter(
        storage, kind="refused", id=f"{event}-{hashlib.sha256(body).hexdigest()[:32]}", reason=reason, body=body
    )
