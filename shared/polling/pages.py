"""Reading a list of the PBX to its end, in any order and with pages of any size."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, PbxNotUnderstood, PbxRefused, PbxUnavailable
from shared.identifiers import identifier
from shared.once import once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shared.items.row import Item
    from shared.pbx.client import Pbx
    from shared.pbx.resources import Resource

# Seconds for a poll in all.
LONGEST = 60.0
# The largest page of the PBX is not documented; a smaller one, or its own, is asked for when this is refused.
_LIMITS: tuple[int | None, ...] = (1000, 100, None)
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
        """True once the PBX is asked for no more."""
        return time.monotonic() > self.at


@dataclass(frozen=True, slots=True)
class Page:
    """
    A page of a list: its items with their ids, in the PBX's order.

    `size` counts those without an id, too; `whole` says that as many were asked for as ever are.
    """

    items: Sequence[tuple[int, Item]]
    size: int
    whole: bool

    @property
    def is_newest_first(self) -> bool:
        """True if the ids fall; one id alone says nothing of an order."""
        ids = [id for id, _ in self.items]
        return len(ids) > 1 and all(one > other for one, other in pairwise(ids))


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
    ask = partial(_ask, pbx, resource, lane=lane, deadline=deadline, **filters)
    seen, offset, overlap, largest, is_empty = set[int](), 0, 0, 0, False
    while True:
        found, whole = ask(offset=offset or None)
        named = [pair for pair in map(identify, found) if pair is not None]
        odd = [item for item in found if identify(item) is None and item not in unreadable]
        unreadable += odd
        if not odd and seen.issuperset(id for id, _ in named):
            if offset and len(found) >= max(largest, _FULL):
                raise PbxNotUnderstood(resource.list_operation, "the same page comes again at another offset")
            if found or not overlap or is_empty:
                return
            is_empty = True
            continue
        seen.update(id for id, _ in named)
        largest, overlap, is_empty = max(largest, len(found)), min(_OVERLAP, len(found) // 4), False
        offset += len(found) - overlap
        asked = time.monotonic()
        yield Page(named, len(found), whole)
        deadline.at += time.monotonic() - asked


def _by_id(id_field: str, item: Item) -> tuple[int, Item] | None:
    number = identifier(item.get(id_field))
    return None if number is None else (number, item | {id_field: number})


@once
def _accepted(pbx: Pbx) -> dict[str, tuple[int | None, ...]]:
    """The limits that are left to try, by resource, once one was refused."""
    return {}


def _ask(
    pbx: Pbx, resource: Resource, *, deadline: Deadline, offset: int | None, **filters: Any
) -> tuple[list[Item], bool]:
    accepted, name, operation = _accepted(pbx), resource.name, resource.list_operation
    limits, refused = list(accepted.get(name, _LIMITS)), False
    while True:
        if deadline.is_over:
            raise PbxUnavailable(operation, "the list is longer than can be read in one run; it goes on with the next")
        try:
            found: list[Item] = pbx.call(operation, until=deadline.at, limit=limits[0], offset=offset, **filters)
        except PbxRefused:
            refused = True
            if len(limits) == 1:
                raise
        except PbxNotUnderstood:
            # The page may have been too long.
            if len(limits) < len(_LIMITS):
                raise
        except BudgetExhausted as error:
            # To begin again would never get to the end of a long list.
            if offset is None or time.monotonic() + error.retry_after > deadline.at:
                raise
            threading.Event().wait(error.retry_after)
            continue
        else:
            if refused:
                accepted[name] = tuple(limits)
            return found, limits[0] == _LIMITS[0]
        limits.pop(0)
