"""What of the items that are taken in does not fit the PBX's reference."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from shared import health
from shared.pbx.operations import operation
from shared.pbx.resources import resource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.items.intake import Row
    from shared.storage.account import Storage


def count_drift(storage: Storage, name: str, rows: Iterable[Row]) -> None:
    """Count the fields of a resource's items, new or changed, that are unknown or do not fit; in memory."""
    # Loaded where the first item comes: pydantic is a third of a cold start.
    from shared.events.model import item_drift

    shape = operation(resource(name).read_operation).item
    for row in rows:
        if not row.removed:
            health.drifted(storage, item_drift(shape, json.loads(row.text)))
