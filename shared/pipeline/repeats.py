"""What a repeat of an event brings: no effect of its own, but all that the first one did not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.calls.store import call_of, calls
from shared.events import store
from shared.events.additions import additions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.events.event import ReceivedEvent


def complete(bridge: Bridge, event: ReceivedEvent, row: Mapping[str, Any]) -> None:
    """
    Complete the call's story and the event's row (`row`, as it is stored) with what a repeat says beyond them.

    The story comes first: whoever dies in between finds the same additions again.
    """
    region = bridge.settings.default_region
    columns = additions(bridge.storage, event, row, region)
    if not columns:
        return
    stories = calls(bridge.storage, region)
    call_id = call_of(event, stories)
    if call_id is not None:
        stories.merge(call_id, event)
    store.add(bridge.storage, event, row, columns)
