"""Items as their table has them: what is stored, what is to be written, and what points to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared import people
from shared.identifiers import identifier
from shared.items.content import NUMBERS
from shared.people import Pointer
from shared.times import call_start, event_time

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from shared.people import Kind

TABLE = "resources"
# What each resource's items are called in the index by person; the others concern nobody.
KINDS: Mapping[str, Kind] = {
    "call_history": "call",
    "call_records": "recording",
    "voicemails": "voicemail",
    "contacts": "contact",
}
_NEVER = datetime.fromtimestamp(0, UTC)

Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """
    The state of an item's row: its content hash, how often the item has changed, and whether it is gone.

    A `baseline` was there before anything was handed on. `waits` is the origin of the events that are still to be made
    of it, once `due` has passed.
    """

    etag: str
    hash: str
    revision: int = 0
    removed: bool = False
    baseline: bool = False
    waits: str = ""
    due: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """An item to be written. One that `arrives` takes a place in the order of arrival."""

    id: int
    item: Item
    hash: str
    before: Stored | None = None
    removed: bool = False
    arrives: bool = False
    baseline: bool = False
    waits: str = ""
    due: datetime | None = None

    @property
    def revision(self) -> int:
        """How often the item has changed, come or gone since it was first seen, this time included."""
        return self.before.revision + 1 if self.before else 0


def began(item: Mapping[str, Any]) -> datetime | None:
    """Return when an item of history began: the time that decides its month; None where it does not say."""
    started = event_time(item.get("callStarted"))
    number = identifier(item.get("callID"))
    return started or (None if number is None else call_start(number))


def pointers(
    resource: str, id: int, item: Mapping[str, Any], region: str, drift: Collection[str] = ()
) -> set[tuple[str, Pointer]]:
    """Return the pointers to an item: from its numbers and its employee, and from what is loose."""
    if resource not in KINDS:
        return set()
    kind = KINDS[resource]
    spelt = call_start(id) if kind == "call" else None
    one = Pointer(kind, str(id), spelt or event_time(item.get("callStarted") or item.get("created")) or _NEVER)
    texts = {str(item[name]) for name in NUMBERS if isinstance(item.get(name), str | int) and item[name] != ""}
    subjects = {people.number(text, region) for text in texts}
    subjects |= {people.LOOSE} & people.loose(item, drift, region)
    contact = identifier(item.get("contactID"))
    return {(subject, one) for subject in (subjects | {people.employee(contact)} if contact is not None else subjects)}
