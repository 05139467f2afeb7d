"""Reading a list of the PBX to its end, in any order and with pages of any size."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, PbxNotUnderstood, PbxRefused
from shared.identifiers import identifier
from shared.once import once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shared.items.reader import Item
    from shared.pbx.client import Pbx
    from shared.pbx.resources import Resource

# The largest page of the PBX is not documented; a smaller one, or its own, is asked for when this is refused.
_LIMITS: tuple[int | None, ...] = (1000, 100, None)
# Items that leave a list while it is paged move the others forward.
_OVERLAP = 5
_MOST_PAGES = 20_000
# Seconds for which a list that has begun waits for calls in all: to begin again would never get to its end. One list
# at a time in a process, so that the others' threads stay free.
_LONGEST_WAIT = 1200.0
_patient = threading.Lock()


@dataclass(frozen=True, slots=True)
class Page:
    """The items of a page that no page before it had, by id, and the offset at which the next one begins."""

    items: Mapping[int, Item]
    next_offset: int
    newest_first: bool


def pages(
    pbx: Pbx,
    resource: Resource,
    *,
    lane: str,
    offset: int = 0,
    known: int | None = None,
    unreadable: list[Item],
    identify: Callable[[Item], tuple[int, Item] | None] | None = None,
    **filters: Any,
) -> Iterator[Page]:
    """
    The pages of a list from `offset` on, until one brings nothing new; `known` is the id of an item that is not.

    Ids are numbers however they are written, or what `identify` makes of items; `unreadable` gets those without one.
    Each is asked for when it is needed. Pages overlap a little, so that what leaves the list meanwhile hides
    nothing, and an empty answer where they do is asked for once more. A list that has begun waits for more calls
    where the budget is used up. Raises what Pbx.call raises, and PbxNotUnderstood for a list without an end.
    """
    identify = identify or partial(_by_id, resource.id_field)
    seen = set() if known is None else {known}
    barren, overlap, paged = 0, len(seen), False
    with _Patience() as patience:
        for _ in range(_MOST_PAGES):
            found = patience.call(partial(_ask, pbx, resource, lane=lane, offset=offset or None, **filters))
            unreadable += [item for item in found if identify(item) is None and item not in unreadable]
            fresh = {number: item for number, item in filter(None, map(identify, found)) if number not in seen}
            if not fresh:
                barren += 1
                if barren > 1 or (len(found) <= overlap and (found or not paged)):
                    return
                offset += len(found)
                continue
            barren, overlap = 0, min(_OVERLAP, len(found) // 4)
            paged = overlap > 0
            offset += len(found) - overlap
            seen |= fresh.keys()
            yield Page(fresh, offset, len(fresh) == len(found) and [*fresh] == sorted(fresh, reverse=True))
    raise PbxNotUnderstood(resource.list_operation, "the list has no end")


def _by_id(id_field: str, item: Item) -> tuple[int, Item] | None:
    number = identifier(item.get(id_field))
    return None if number is None else (number, item | {id_field: number})


class _Patience(ExitStack):
    """Has a list that has begun wait where the budget is used up, unless another one of this process waits already."""

    _begun = False
    _until: float | None = None

    def call(self, ask: Callable[[], list[Item]]) -> list[Item]:
        """What is asked for; raises BudgetExhausted where there is no waiting, or no end of it."""
        while True:
            try:
                found = ask()
            except BudgetExhausted as error:
                if not self._may_wait():
                    raise
                threading.Event().wait(error.retry_after)
            else:
                self._begun = True
                return found

    def _may_wait(self) -> bool:
        if self._until is None:
            if not self._begun or not _patient.acquire(blocking=False):
                return False
            self.callback(_patient.release)
            self._until = time.monotonic() + _LONGEST_WAIT
        return time.monotonic() < self._until


@once
def _accepted(pbx: Pbx) -> dict[str, tuple[int | None, ...]]:
    """The limits that are left to try, by resource, once one was refused."""
    return {}


def _ask(pbx: Pbx, resource: Resource, **parameters: Any) -> list[Item]:
    accepted = _accepted(pbx)
    limits, refused = list(accepted.get(resource.name, _LIMITS)), False
    while True:
        try:
            found: list[Item] = pbx.call(resource.list_operation, limit=limits[0], **parameters)
        except PbxRefused:
            refused = True
            if len(limits) == 1:
                raise
        except PbxNotUnderstood:
            # The page may have been too long.
            if len(limits) < len(_LIMITS):
                raise
        else:
            if refused:
                accepted[resource.name] = tuple(limits)
            return found
        limits.pop(0)
