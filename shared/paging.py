"""Reading a list of the PBX to its end, whatever its order and however small its pages."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import PbxNotUnderstood, PbxRefused
from shared.heads import LARGEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.items import Item
    from shared.pbx import Pbx
    from shared.resources import Resource

logger = logging.getLogger(__name__)

# The largest page of the PBX is not documented; the smaller one is asked for when the larger is refused or too long.
_LIMITS = (1000, 100)
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


def pages(pbx: Pbx, resource: Resource, *, lane: str, offset: int = 0, **filters: Any) -> Iterator[Page]:
    """
    The pages of a list from `offset` on, until one brings nothing new.

    Each is asked for when it is needed. Pages overlap a little, so that what leaves the list meanwhile hides
    nothing. Raises what Pbx.call raises, and PbxNotUnderstood for a list without an end.
    """
    seen: set[int] = set()
    limits, barren, overlap = list(_LIMITS), 0, 0
    for _ in range(_MOST_PAGES):
        found = _ask(pbx, resource, limits, lane=lane, offset=offset or None, **filters)
        ids = [id_of(resource, item) for item in found]
        if None in ids:
            logger.warning("%s: %d items without an id are left out", resource.name, ids.count(None))
        fresh = {
            number: item for number, item in zip(ids, found, strict=True) if number is not None and number not in seen
        }
        if not fresh:
            barren += 1
            if barren > 1 or len(found) <= overlap:
                return
            offset += len(found)
            continue
        barren, overlap = 0, min(_OVERLAP, len(found) // 4)
        offset += len(found) - overlap
        seen |= fresh.keys()
        yield Page(fresh, offset, ids == sorted(fresh, reverse=True))
    raise PbxNotUnderstood(resource.list_operation, "the list has no end")


def _ask(pbx: Pbx, resource: Resource, limits: list[int], **parameters: Any) -> list[Item]:
    while True:
        try:
            found: list[Item] = pbx.call(resource.list_operation, limit=limits[0], **parameters)
            return found
        except (PbxRefused, PbxNotUnderstood):
            if len(limits) == 1:
                raise
            limits.pop(0)
