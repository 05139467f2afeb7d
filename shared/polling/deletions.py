"""Voicemails that were deleted at the PBX without a webhook: found by listings that lack them, and only inferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.events.receive import submit
from shared.items import reader as items
from shared.items.intake import Intake, row_of
from shared.polling import removals
from shared.polling.reading import as_event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.items.reader import Item
    from shared.polling.reading import Reading


def look_for(reading: Reading, listed: Mapping[int, Item], event: str, *, all_readable: bool = True) -> None:
    """
    Submit an event for each stored item that a complete listing lacks, once the proof of removals is there.

    Its origin is `reconciled`: nobody said that it was deleted, so no audio is deleted for it.
    """
    bridge, resource = reading.bridge, reading.resource
    known = items.known(bridge.storage, resource.name)
    verdict = removals.judge(known, listed, reading.moment)
    gone = removals.proved(verdict, known, reading, "poll", all_readable=all_readable)
    last = {number: items.stored(bridge.storage, resource.name, number) or {} for number in gone}
    for number, item in last.items():
        data = as_event(item, resource, event) | {resource.id_field: number}
        submit(bridge.storage, bridge.settings, event, data, origin="reconciled")
    intake = Intake(bridge.storage, resource.name)
    intake.note(verdict.changes)
    rows = [row_of(number, item, known[number], removed=True) for number, item in last.items()]
    intake.overwrite(rows, reading.moment)
