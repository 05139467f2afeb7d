"""What a repeat of an event knows beyond what came first."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shared.events.event import HISTORY, check_envelope, row_envelope
from shared.json_bodies import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage

# A column holds 32 Ki characters; a repeat beyond it completes the story all the same.
_LONGEST = 30 * 1024
_COMPLETED = (
    *("happened", "direction", "caller", "callerE164", "destination", "destinationE164"),
    *("callID", "contactID", "previous_contactID", "recordingID", "voicemailID"),
)


def additions(storage: Storage, event: ReceivedEvent, row: Mapping[str, Any], region: str) -> dict[str, Any]:
    """
    The columns that a repeat adds to its event's row; none where it says nothing more, or what the app said itself.

    `added` holds the fields that the first body lacks, or that a list of the PBX knows better, by name as JSON, and
    `addedByHistory` the names of the latter; the other columns are as if all had come at once. The body stays as it is.
    """
    if event.type.source == "bridge" or row.get("body") == encode(event.envelope).decode():
        return {}
    envelope = row_envelope(storage, row)
    before: dict[str, Any] = json.loads(row.get("added") or "{}")
    better = set(filter(None, str(row.get("addedByHistory") or "").split(",")))
    _, known = check_envelope(event.type, {**envelope, "data": {**envelope["data"], **before}})
    fresh = {}
    for name, value in event.envelope["data"].items():
        said, had = getattr(event.data, name, None), getattr(known, name, None)
        if said is None or said == had:
            continue
        is_history = row["origin"] in HISTORY or name in better
        if had is None or (name in event.type.model.model_fields and _stands(event, said, had, is_history)):
            fresh[name] = value
    added = {**before, **fresh}
    if not fresh or len(encode(added)) > _LONGEST:
        return {}
    better |= fresh.keys() if event.from_history else set()
    whole = {**envelope, "data": {**envelope["data"], **added}}
    merged = replace(event, data=check_envelope(event.type, whole)[1], received=row["received"])
    columns = merged.columns(region)
    completed = {name: columns[name] for name in _COMPLETED if name in columns and columns[name] != row.get(name)}
    return {**completed, "added": encode(added).decode(), "addedByHistory": ",".join(sorted(better))}


def _stands(event: ReceivedEvent, said: Any, had: Any, had_from_history: bool) -> bool:
    """Whether a value stands against another: history beats a webhook, else the smaller one does."""
    if event.from_history != had_from_history:
        return event.from_history
    return type(said) is type(had) and not isinstance(said, dict | list) and bool(said < had)
