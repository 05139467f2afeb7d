"""Reading a list of the PBX to its end, whatever its order and however small its pages."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from shared.errors import PbxNotUnderstood, PbxRefused
from shared.heads import LARGEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.items import Item
    from shared.pbx import Pbx
    from shared.resources import Resource

logger = logging.getLogger(__name__)

# The largest page of the PBX is not documented; a smaller one, or its own, is asked for when this is refused.
_LIMITS: tuple[int | None, ...] = (1000, 100, None)
_accepted: WeakKeyDictionary[Pbx, dict[str, tuple[int | None, ...]]] = WeakKeyDictionary()
# Items that leave a list while it is paged move the others forward.
_OVERLAP = 5
_MOST_PAGES = 20_000


@dataclass(frozen=True, slots=True)
class Page:
    """The items of a page that no page before it had, by id, and the offset at which the next one begins."""

    items: Mapping[int, Item]
    next_offset: int
    newest_first: bool


def id_of(resource: Resource, item: Mapping[str, Any]) -> int | None:
    """The item's id; None where it has none that can be one."""
    value = item.get(resource.id_field)
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:20])
    return value if type(value) is int and 0 <= value <= LARGEST_ID else None


def pages(
    pbx: Pbx, resource: Resource, *, lane: str, offset: int = 0, known: int | None = None, **filters: Any
) -> Iterator[Page]:
    """
    The pages of a list from `offset` on, until one brings nothing new; `known` is the id of an item that is not.

    Each is asked for when it is needed. Pages overlap a little, so that what leaves the list meanwhile hides
    nothing, and an empty answer where they do is asked for once more. Raises what Pbx.call raises, and
    PbxNotUnderstood for a list without an end.
    """
    seen = set() if known is None else {known}
    barren, overlap, paged = 0, len(seen), False
    for _ in range(_MOST_PAGES):
        found = _ask(pbx, resource, lane=lane, offset=offset or None, **filters)
        ids = [id_of(resource, item) for item in found]
        if None in ids:
            logger.warning("%s: %d items without an id are left out", resource.name, ids.count(None))
        fresh = {
            number: item for number, item in zip(ids, found, strict=True) if number is not None and number not in seen
        }
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
        yield Page(fresh, offset, ids == sorted(fresh, reverse=True))
    raise PbxNotUnderstood(resource.list_operation, "the list has no end")


def _ask(pbx: Pbx, resource: Resource, **parameters: Any) -> list[Item]:
    accepted = _accepted.setdefault(pbx, {})
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
