"""Rows of subscriptions as releases up to 0.1 wrote them: in clear, under the id that is the right to end them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.subscriptions.subscription import FINGERPRINT, KEY, PARTITION, Subscription, public_id
from shared.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.subscriptions.keys import Keys


def is_former(row: Mapping[str, Any]) -> bool:
    """Whether a row of table `subscriptions` is such a one."""
    return "endpoint" in row


def upgraded(row: Mapping[str, Any], fingerprints: Mapping[str, Any], keys: Keys) -> list[Any]:
    """What makes today's rows of one that an earlier release wrote in clear, as operations of a transaction."""
    capability = str(row["RowKey"]).removeprefix(KEY)
    one = Subscription(
        id=public_id(capability),
        capability=capability,
        event=row["event"],
        endpoint=row["endpoint"],
        wanted=json.loads(row["wanted"]),
        shape=row["shape"],
        created=parse_time(row["created"]),
        secrets=tuple((secret, until) for secret, until in json.loads(row["secrets"])),
        disabled=parse_time(row["disabled"]) if row.get("disabled") else None,
        trying=bool(row.get("trying")),
        shown=True,
    )
    former = [key for key, marker in fingerprints.items() if marker.get("id") == capability]
    name = FINGERPRINT + one.fingerprint(keys)
    return [
        *(("delete", {"PartitionKey": PARTITION, "RowKey": key}) for key in (row["RowKey"], *former)),
        ("upsert", one.row(keys)),
        ("upsert", {"PartitionKey": PARTITION, "RowKey": name, "id": one.id}),
    ]
