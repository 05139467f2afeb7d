"""Reading a list of the PBX to its end, in any order and with pages of any size."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, PbxNotUnderstood, PbxUnavailable
from shared.identifiers import identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shared.items.store import Item
    from shared.pbx.client import Pbx
    from shared.pbx.resources import Resource

# Seconds for a poll in all.
LONGEST = 60.0
# Asked for at once; the largest page of the PBX is not documented, and a smaller one is taken as it comes.
_LIMIT = 1000
# Items that leave a list while it is paged move the others forward.
_OVERLAP = 5
# A page of fewer items is all that a PBX has that knows no offsets.
_FULL = 10


@dataclass(slots=True)
class Deadline:
    """The end of a poll, in monotonic seconds; time that our own storage takes does not count."""

    at: float = field(default_factory=lambda: time.monotonic() + LONGEST)

    @property
    def is_over(self) -> bool:
        """True if the PBX is asked for no more."""
        return time.monotonic() > self.at


@dataclass(frozen=True, slots=True)
class Page:
    """
    A page of a list: its items with their ids, in the PBX's order.

    `size` counts those without an id, too.
    """

    items: Sequence[tuple[int, Item]]
    size: int

    @property
    def is_newest_first(self) -> bool:
        """True if the ids fall; one id alone says nothing of an order."""
        ids = list(dict(self.items))
        return len(ids) > 1 and ids == sorted(ids, reverse=True)


def pages(
    pbx: Pbx,
    resource: Resource,
    *,
    lane: str,
    deadline: Deadline,
    unreadable: list[Item],
    identify: Callable[[Item], tuple[int, Item] | None] | None = None,
    **filters: Any,
) -> Iterator[Page]:
    """
    Yield the pages of a list until one holds nothing new; each is asked for when it is needed.

    Ids are numbers however they are written, or what `identify` makes of items; `unreadable` gets those without one.
    Pages overlap a little, so that what leaves the list meanwhile hides nothing, and an empty answer where they do is
    asked for once more. Raises what Pbx.call raises, PbxUnavailable after the deadline, and
    PbxNotUnderstood where a full page comes again at another offset.
    """
    identify = identify or partial(_by_id, resource.id_field)
    seen, offset, overlap, largest, is_empty = set[int](), 0, 0, 0, False
    while True:
        found = _ask(pbx, resource, lane=lane, deadline=deadline, offset=offset or None, **filters)
        count, named = len(unreadable), _named(found, identify, unreadable)
        ids = dict(named).keys()
        if len(unreadable) == count and ids <= seen:
            if offset and len(found) >= max(largest, _FULL):
                raise PbxNotUnderstood(resource.list_operation, "the same page comes again at another offset")
            if found or not overlap or is_empty:
                return
            is_empty = True
            continue
        seen |= ids
        largest, overlap, is_empty = max(largest, len(found)), min(_OVERLAP, len(found) // 4), False
        offset += len(found) - overlap
        asked = time.monotonic()
        yield Page(named, len(found))
        deadline.at += time.monotonic() - asked


def _named(
    found: Sequence[Item], identify: Callable[[Item], tuple[int, Item] | None], unreadable: list[Item]
) -> list[tuple[int, Item]]:
    """Return the items with their ids; those without one are added to `unreadable` once."""
    named: list[tuple[int, Item]] = []
    for item in found:
        if (pair := identify(item)) is not None:
            named.append(pair)
        elif item not in unreadable:
            unreadable.append(item)
    return named


def _by_id(id_field: str, item: Item) -> tuple[int, Item] | None:
    number = identifier(item.get(id_field))
    return None if number is None else (number, item | {id_field: number})


def _ask(pbx: Pbx, resource: Resource, *, deadline: Deadline, offset: int | None, **filters: Any) -> list[Item]:
    operation = resource.list_operation
    while True:
        if deadline.is_over:
            raise PbxUnavailable(operation, "the list is longer than can be read in one run; it goes on with the next")
        try:
            return pbx.call(operation, until=deadline.at, limit=_LIMIT, offset=offset, **filters)  # type: ignore[no-any-return]
        except BudgetExhausted as error:
            # To begin again would never get to the end of a long list.
            if offset is None or time.monotonic() + error.retry_after > deadline.at:
                raise
            threading.Event().wait(error.retry_after)
