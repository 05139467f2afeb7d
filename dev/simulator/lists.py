"""The filters, order and pages of the PBX's lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dev.simulator.wire import Item, read_time

_DEFAULT_LIMIT = 100


class RefusedError(ValueError):
    """A parameter is invalid, and the PBX answers 422; the text names it."""


@dataclass(frozen=True)
class Filter:
    """A query parameter of a list, the item's field that it filters by, and the kind of comparison."""

    parameter: str
    field: str
    kind: str = "integer"  # a key of _KINDS


# A parameter's filter is its first row whose field the items have.
_FILTERS: tuple[Filter, ...] = (
    Filter("destination", "destination", "number"),
    Filter("source", "caller", "number"),
    Filter("source", "sender", "number"),
    Filter("direction", "direction", "direction"),
    Filter("contact_id", "contactID"),
    Filter("contact_id", "members", "member"),
    # The PBX filters voicemails by employee without showing it.
    Filter("contact_id", "_contactID"),
    Filter("box_id", "voicemailBoxID"),
    Filter("date_from", "callStarted", "from"),
    Filter("date_from", "last_contact", "from"),
    Filter("date_to", "callStarted", "to"),
    Filter("date_to", "last_contact", "to"),
)


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


def _moment(value: Any) -> Any:
    return read_time(value) if isinstance(value, str) else value


_KINDS: Mapping[str, tuple[Callable[[str, str], Any], Callable[[Any, Any], bool]]] = {
    "integer": (_integer, lambda value, wanted: value == wanted),
    "number": (
        lambda _, text: text.strip().removeprefix("+371"),
        lambda value, wanted: (value or "").removeprefix("+371") == wanted,
    ),
    "direction": (_direction, lambda value, wanted: value == wanted),
    "member": (_integer, lambda value, wanted: any(part["contactID"] == wanted for part in value)),
    "from": (_time, lambda value, wanted: value is not None and _moment(value) >= wanted),
    "to": (_time, lambda value, wanted: value is not None and _moment(value) <= wanted),
}


def filters_of(parameters: Iterable[str], fields: Iterable[str]) -> tuple[Filter, ...]:
    """Return the filters of a list with these parameters and items with these fields."""
    known = {*fields, "_contactID"}
    matches = ([row for row in _FILTERS if row.parameter == name and row.field in known] for name in parameters)
    return tuple(rows[0] for rows in matches if rows)


def number_of(query: Mapping[str, str], name: str, default: int) -> int:
    """Return a whole number from the query; RefusedError for other text and for a negative number."""
    number = _integer(name, query[name]) if query.get(name) else default
    if number < 0:
        raise RefusedError(f"{name} must not be negative")
    return number


def matching(items: Iterable[Item], filters: Iterable[Filter], query: Mapping[str, str]) -> list[Item]:
    """Return the items that pass all filters of the query; RefusedError for an invalid value."""
    matches = list(items)
    for row in filters:
        if text := query.get(row.parameter, ""):
            read, match = _KINDS[row.kind]
            wanted = read(row.parameter, text)
            matches = [item for item in matches if match(item.get(row.field), wanted)]
    return matches


def ordered(ids: Iterable[int], order: str) -> list[int]:
    """Return ids in descending order, ascending with `oldest`, or with `random` in a fixed shuffle."""
    return sorted(ids, key=_shuffle if order == "random" else None, reverse=order != "oldest")


def page(items: list[Item], query: Mapping[str, str], cap: int) -> list[Item]:
    """Return the page at the query's offset and limit, of at most `cap` items."""
    offset, limit = number_of(query, "offset", 0), number_of(query, "limit", 0) or _DEFAULT_LIMIT
    return items[offset : offset + min(limit, cap)]


def shuffled(items: list[Item], id_field: str) -> list[Item]:
    """Return the items in a fixed shuffle."""
    return sorted(items, key=lambda item: _shuffle(item[id_field]))


def _shuffle(item_id: int) -> int:
    return item_id * 2654435761 % 4294967291
