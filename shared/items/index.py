"""Which items of the dated lists a number or an employee has to do with, so that no list has to be looked through."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared import people
from shared.identifiers import identifier
from shared.items import reader
from shared.items.head import heads
from shared.people import Pointer
from shared.times import call_start, event_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.items.reader import Item
    from shared.people import Kind
    from shared.storage.account import Storage

KINDS: Mapping[str, Kind] = {"call_history": "call", "call_records": "recording", "voicemails": "voicemail"}
# Somebody who has to do with more is found soon enough by looking through the newest.
MOST = 200
# As many items are read at once, and no more than are asked for.
_AT_ONCE = 4
_NUMBERS = ("caller", "destination", "sender")
_NEVER = datetime.fromtimestamp(0, UTC)


def add(storage: Storage, resource: str, found: Mapping[int, Item], region: str) -> None:
    """Note who has to do with these items; a hundred notes cost one storage operation, and twice does no harm."""
    if resource in KINDS:
        people.add(storage, [note for id, item in found.items() for note in _notes(resource, id, item, region)])


def _notes(resource: str, id: int, item: Item, region: str) -> set[tuple[str, Pointer]]:
    kind = KINDS[resource]
    spelt = call_start(id) if kind == "call" else None
    entry = Pointer(kind, str(id), spelt or event_time(item.get("callStarted")) or _NEVER)
    numbers = {str(item[name]) for name in _NUMBERS if isinstance(item.get(name), str | int) and item[name] != ""}
    subjects = {people.number(number, region) for number in numbers}
    contact = identifier(item.get("contactID"))
    subjects |= {people.employee(contact)} if contact is not None else set()
    return {(subject, entry) for subject in subjects}


def ids(storage: Storage, resource: str, subjects: Sequence[str]) -> set[int] | None:
    """
    Return ids that hold all items which all of these subjects are in; None where each of them is in many.

    Items that were stored a few minutes ago may be missing: those stand in the head.
    """
    if resource not in KINDS or not subjects:
        return None
    found = [people.find(storage, subject, [KINDS[resource]], limit=MOST + 1) for subject in subjects]
    few = [{int(entry.id) for entry in entries} for entries in found if len(entries) <= MOST]
    return set.intersection(*few) if few else None


def pick(storage: Storage, resource: str, chosen: Sequence[int]) -> Iterator[Item]:
    """The stored items of these ids, in this order; read as they are asked for, a few at once."""
    newest = heads(storage).recent(resource).newest

    def item_of(id: int) -> Item | None:
        return json.loads(newest[id]) if id in newest else reader.get(storage, resource, id)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(chosen), _AT_ONCE):
            yield from filter(None, pool.map(item_of, chosen[start : start + _AT_ONCE]))
