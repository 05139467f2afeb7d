"""What a repeat of an event brings: no effect of its own, but all that the first one did not know, in any order."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.calls.store import call_of, calls
from shared.events import store
from shared.events.event import HISTORY, check_envelope, row_envelope
from shared.json_bodies import encode
from shared.once import once

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from shared.bridge import Bridge
    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.storage.rows import Row

_REMEMBERED = 4096
# A column holds 32 Ki characters.
_LONGEST = 30 * 1024
_COMPLETED = (
    *("happened", "direction", "caller", "callerE164", "destination", "destinationE164"),
    *("callID", "contactID", "previous_contactID", "recordingID", "voicemailID"),
)


def complete(bridge: Bridge, event: ReceivedEvent, row: Row) -> Row:
    """
    Complete the call's story and the event's row (`row`, as it is stored) with what a repeat says beyond them.

    Returns the row as it is then. The story comes first: whoever dies in between finds the same additions again. What
    the app said itself has nothing to add.
    """
    if event.type.source == "bridge" or says_the_same(event, row):
        return row
    add_to_story(bridge, event, repeat=True)
    region = bridge.settings.default_region
    return store.add(bridge.storage, row, lambda row: additions(bridge.storage, event, row, region))


def add_to_story(bridge: Bridge, event: ReceivedEvent, *, repeat: bool = False) -> bool:
    """Complete the story of the event's call; False where no call is known to be it."""
    stories = calls(bridge.storage, bridge.settings.default_region)
    call_id = call_of(event, stories)
    if call_id is not None:
        stories.merge(call_id, event, repeat=repeat)
    return call_id is not None


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


def says_the_same(event: ReceivedEvent, row: Mapping[str, Any]) -> bool:
    """Whether a repeat is what the row has as its first body, from the same side: it has nothing to add, unread."""
    return (row["origin"] in HISTORY) == event.from_history and row.get("body") == encode(event.envelope).decode()


def additions(storage: Storage, event: ReceivedEvent, row: Mapping[str, Any], region: str) -> dict[str, Any]:
    """
    The columns that a repeat adds to its event's row, None for one that goes; empty where it says nothing more.

    `added` holds the fields that the first body lacks, or that stand against it, by name as JSON, and `addedByHistory`
    the names of those whose value a list of the PBX has said; the other columns are as if all had come at once. What
    stands is for the rule in docs/decisions/0010-liberal-in-strict-out.md to say.
    """
    from shared.events.data import readers

    envelope = row_envelope(storage, row)
    body = check_envelope(event.type, envelope)[1]
    before: dict[str, Any] = json.loads(row.get("added") or "{}")
    better = set(filter(None, str(row.get("addedByHistory") or "").split(",")))
    known, by_history = event.type.model.model_fields.keys() | readers().keys(), set(better)
    fresh = {}
    for name, value in event.envelope["data"].items():
        said = getattr(event.data, name, None)
        had = before.get(name, getattr(body, name, None))
        if name in before and name in readers():
            had = readers()[name].validate_python(had)
        is_history = name in better or (row["origin"] in HISTORY and name not in before)
        stands = had is None or (name in known and _stands(event, said, had, is_history))
        if said is None or not (stands or said == had):
            continue
        if stands and said != had:
            fresh[name] = value
        if event.from_history and name in known and (name in fresh or not is_history):
            by_history.add(name)
    added = _shortened({**before, **fresh}, known)
    if added == before and by_history == better:
        return {}
    whole = {**envelope, "data": {**envelope["data"], **added}}
    merged = replace(event, data=check_envelope(event.type, whole)[1], received=row["received"])
    columns = merged.columns(region)
    completed = {name: columns.get(name) for name in _COMPLETED if columns.get(name) != row.get(name)}
    return {**completed, "added": encode(added).decode(), "addedByHistory": ",".join(sorted(by_history))}


def _stands(event: ReceivedEvent, said: Any, had: Any, had_from_history: bool) -> bool:
    """Whether a value stands against another: history beats a webhook, else the smaller one does."""
    if event.from_history != had_from_history:
        return event.from_history
    return type(said) is type(had) and not isinstance(said, dict | list) and bool(said < had)


def _shortened(added: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """As many fields as a column holds: those that events know first, then the shorter ones."""
    kept, size = dict[str, Any](), 0
    for name in sorted(added, key=lambda name: (name not in known, len(encode(added[name])), name)):
        size += len(encode({name: added[name]}))
        if size <= _LONGEST:
            kept[name] = added[name]
    return kept
