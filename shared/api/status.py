"""The state of the bridge in one answer: checkpoints, today's health, webhooks, dead letters and the PBX's budget."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared import health
from shared.pbx.budget import ledger
from shared.pbx.budget import row as ledger_row
from shared.polling import checkpoints
from shared.storage import dead_letters
from shared.storage.account import reaching_storage
from shared.times import now
from shared.webhooks.table import ended_since, read_webhooks

if TYPE_CHECKING:
    from shared.bridge import Bridge

_MOST_LETTERS = 1000


def status(bridge: Bridge) -> dict[str, Any]:
    """As JSON, without secrets and without people; raises StorageUnavailable."""
    moment, storage = now(), bridge.storage
    with reaching_storage():
        polled = checkpoints.read_all(storage)
        return {
            "checkpoints": [checkpoints.describe(checkpoint, moment) for checkpoint in polled],
            "pbx": checkpoints.describe_pbx(polled),
            "health": health.today(storage, moment),
            "webhooks": [row.told() for row in read_webhooks(storage)],
            "webhooksEndedSince": ended_since(storage),
            "deadLetters": _dead_letters(bridge),
            "budget": _budget(bridge),
        }


def _dead_letters(bridge: Bridge) -> dict[str, Any]:
    rows = bridge.storage.table(dead_letters.TABLE).list_entities(select=["PartitionKey"])
    kinds = Counter(row["PartitionKey"] for row in islice(rows, _MOST_LETTERS + 1))
    return {"kinds": dict(kinds), "more": kinds.total() > _MOST_LETTERS}


def _budget(bridge: Bridge) -> dict[str, int]:
    """The calls that count now: those made in the last minute, and those that processes hold."""
    rows = list(bridge.storage.table(ledger_row.TABLE).query_entities(f"PartitionKey eq '{bridge.settings.pbx_host}'"))
    terms, moment = ledger.Terms(), time.time()
    used = sum(ledger.read(row.get("blocks"), moment, terms).at(moment, terms).used for row in rows)
    return {"limit": terms.limit, "used": used}
