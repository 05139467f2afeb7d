"""Events as messages of the queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import event_id, event_named

HEARD = datetime(2026, 11, 23, 12, tzinfo=UTC)


def received(
    name: str, *, origin: str = "webhook", at: datetime = HEARD, id: str | None = None, **data: Any
) -> ReceivedEvent:
    """An event with these fields, under the id of its key unless it is given another one."""
    row = event_named(name)
    envelope, checked = check_envelope(row, {"type": "Event", "eventType": name, "version": "v1", "data": data})
    id = id or event_id(row, checked, "LV")
    return ReceivedEvent(type=row, id=id, data=checked, envelope=envelope, origin=origin, received=at)
