"""Rows of one resource: kept in id order, filtered and paged as the PBX's lists are."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Any

from dev.simulator.wire import read_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from dev.simulator.resources import Filter, Item


class RefusedError(ValueError):
    """A parameter that the PBX answers with 422; the text names it."""


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise RefusedError(f"{name} must be an integer") from None


def _direction(name: str, text: str) -> str:
    if text not in ("in", "out"):
        raise RefusedError(f'{name} must be "in" or "out"')
    return text


def _time(name: str, text: str) -> Any:
    try:
        return read_time(text)
    except ValueError:
        raise RefusedError(f"{name} must be a date and time") from None


def _number(_name: str, text: str) -> str:
    return text.strip().removeprefix("+371")


def _moment(value: Any) -> Any:
    return read_time(value) if isinstance(value, str) else value


MATCHES: Mapping[str, tuple[Callable[[str, str], Any], Callable[[Any, Any], bool]]] = {
    "integer": (_integer, lambda value, wanted: value == wanted),
    "number": (_number, lambda value, wanted: (value or "").removeprefix("+371") == wanted),
    "direction": (_direction, lambda value, wanted: value == wanted),
    "member": (_integer, lambda value, wanted: any(part["contactID"] == wanted for part in value)),
    "from": (_time, lambda value, wanted: value is not None and _moment(value) >= wanted),
    "to": (_time, lambda value, wanted: value is not None and _moment(value) <= wanted),
}


def conditions(filters: Iterable[Filter], query: Mapping[str, str]) -> list[Callable[[Item], bool]]:
    """Return tests of an item for the query's filters; raise RefusedError for a value that is none."""
    tests: list[Callable[[Item], bool]] = []
    for row in filters:
        text = query.get(row.parameter, "")
        if not text:
            continue
        read, match = MATCHES[row.kind]
        wanted = read(row.parameter, text)
        tests.append(lambda item, row=row, match=match, wanted=wanted: match(item.get(row.field), wanted))  # type: ignore[misc]
    return tests


def number_of(query: Mapping[str, str], name: str, default: int) -> int:
    """Return a whole number from the query; raise RefusedError for another or a negative one."""
    number = _integer(name, query[name]) if query.get(name) else default
    if number < 0:
        raise RefusedError(f"{name} must not be negative")
    return number


class Rows:
    """The items of one resource by id. Bulk rows exist as an id only and are made when they are read."""

    def __init__(self, make: Callable[[int], Item]) -> None:
        self._make = make
        self._ids: list[int] = []
        self._items: dict[int, Item] = {}
        self._found: tuple[tuple[object, ...], list[int]] = ((), [])
        self._version = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: int) -> bool:
        with self._lock:
            at = bisect_left(self._ids, item_id)
            return at < len(self._ids) and self._ids[at] == item_id

    def __iter__(self) -> Iterator[Item]:
        """Iterate over every item, smallest id first."""
        with self._lock:
            ids = list(self._ids)
        return (item for item in map(self.get, ids) if item is not None)

    def put(self, item_id: int, item: Item) -> None:
        """Add the item, or replace the one with its id."""
        with self._lock:
            if item_id not in self:
                insort(self._ids, item_id)
            self._items[item_id] = item
            self._version += 1

    def put_bulk(self, ids: Sequence[int]) -> None:
        """Add ids whose rows are made when read."""
        with self._lock:
            self._ids = sorted({*self._ids, *ids})
            self._version += 1

    def remove(self, item_id: int) -> Item | None:
        """Take the item away and return it; None where there was none."""
        with self._lock:
            item = self.get(item_id)
            if item is not None:
                self._ids.pop(bisect_left(self._ids, item_id))
                self._items.pop(item_id, None)
                self._version += 1
            return item

    def get(self, item_id: int) -> Item | None:
        """Return the item with this id, or None."""
        with self._lock:
            if item_id not in self:
                return None
            return self._items.get(item_id) or self._make(item_id)

    def written(self) -> list[Item]:
        """Return the items that were put one by one, bulk rows left out."""
        with self._lock:
            return list(self._items.values())

    def largest(self) -> int | None:
        """Return the greatest id, or None where there are no rows."""
        with self._lock:
            return self._ids[-1] if self._ids else None

    def page(
        self,
        above: int,
        tests: Sequence[Callable[[Item], bool]],
        *,
        order: str,
        offset: int,
        limit: int,
        wanted: tuple[str, ...] = (),
    ) -> list[Item]:
        """
        Return one page of the items with a greater id than `above` that pass all tests.

        `wanted` names what the tests look for, so that the next page need not run them again.
        """
        with self._lock:
            first = bisect_right(self._ids, above)
            key = (self._version, first, order, wanted)
            if self._found[0] != key:
                self._found = (key, self._fitting(self._walk(first, order), tests))
            ids = self._found[1][offset : offset + limit]
            if order == "shuffled-page":
                ids = sorted(ids, key=_shuffle)
            return [item for item in map(self.get, ids) if item is not None]

    def _walk(self, first: int, order: str) -> list[int]:
        ids = self._ids[first:]
        return sorted(ids, key=_shuffle) if order == "random" else ids if order == "oldest" else ids[::-1]

    def _fitting(self, ids: list[int], tests: Sequence[Callable[[Item], bool]]) -> list[int]:
        if not tests:
            return ids
        items = ((item_id, self.get(item_id)) for item_id in ids)
        return [item_id for item_id, item in items if item and all(test(item) for test in tests)]


def _shuffle(item_id: int) -> int:
    return item_id * 2654435761 % 4294967291
