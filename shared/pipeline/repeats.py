"""What a repeat of an event brings: no effect of its own, but all that the first one did not know."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from shared.calls.store import call_of, calls
from shared.events import store
from shared.events.additions import additions, says_the_same
from shared.json_bodies import encode
from shared.once import once

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.storage.rows import Row

_REMEMBERED = 4096


def complete(bridge: Bridge, event: ReceivedEvent, row: Row) -> Row:
    """
    Complete the call's story and the event's row (`row`, as it is stored) with what a repeat says beyond them.

    Returns the row as it is then. The story comes first: whoever dies in between finds the same additions again. What
    the app said itself has nothing to add.
    """
    if event.type.source == "bridge" or says_the_same(event, row):
        return row
    region = bridge.settings.default_region
    stories = calls(bridge.storage, region)
    call_id = call_of(event, stories)
    if call_id is not None:
        stories.merge(call_id, event, repeat=True)
    return store.add(bridge.storage, row, lambda row: additions(bridge.storage, event, row, region))


class Finished:
    """Which events this process has given their effect: the very same body again has nothing to add, unread."""

    def __init__(self) -> None:
        self._digests: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._lock = Lock()

    def add(self, event: ReceivedEvent) -> None:
        """Remember an event that has had its effect."""
        with self._lock:
            self._digests[self._key(event)] = None
            while len(self._digests) > _REMEMBERED:
                self._digests.popitem(last=False)

    def __contains__(self, event: ReceivedEvent) -> bool:
        return self._key(event) in self._digests

    def _key(self, event: ReceivedEvent) -> tuple[str, bytes]:
        return event.id, hashlib.sha256(encode([event.origin, event.envelope])).digest()


@once
def finished(storage: Storage) -> Finished:
    """What this process has finished of the events in a storage account."""
    return Finished()
