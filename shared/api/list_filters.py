"""Filters of lists: one table for all of them, and the ways to the items that may fit."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared import people
from shared.api.operations import NUMBERS
from shared.api.parameters import LARGEST_LIMIT
from shared.calls.store import calls
from shared.identifiers import LARGEST_ID, identifier
from shared.items import reader as items
from shared.items.store import KINDS
from shared.pbx.resources import RESOURCES
from shared.phones import cleaned, e164
from shared.times import (
    FIRST_CLOCK_ID,
    LAST_CLOCK_ID,
    MICROSECONDS_PER_SECOND,
    bare_date,
    day_bounds,
    event_time,
    iso,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from shared.api.parameters import Request
    from shared.bridge import Bridge
    from shared.items.store import Item
    from shared.pbx.resources import Resource
    from shared.people import Kind, Pointer
    from shared.storage.account import Storage

# Pointers of each person that are read first, and items that are read at once.
_FEW, _MOST_IN_CHUNK = 200, 96
# callStarted may differ from the start that a callID spells.
_SLACK = 86_400 * MICROSECONDS_PER_SECOND
_TAIL = 7
# The fields that make up a name.
NAMES = tuple(dict.fromkeys(name for row in RESOURCES for name in row.title))
_BY_NUMBER, _CONTACT = ("source", "destination", "number"), "contact_id"


def _same_number(bridge: Bridge, value: Any, wanted: str) -> bool:
    text = str(value)
    text = text if text.isascii() and text.isdecimal() else cleaned(text)
    ours, theirs = ("".join(filter(str.isdecimal, number)) for number in (text, wanted))
    size = min(len(ours), len(theirs), _TAIL)
    # Most numbers differ in their last digits, and that is quickly seen.
    if not size or ours[-size:] != theirs[-size:]:
        return False
    region = bridge.settings.default_region
    return text == wanted or (e164(text, region) or ours) == (e164(wanted, region) or theirs)


def _equal(bridge: Bridge, value: Any, wanted: Any) -> bool:
    return str(value) == str(wanted)


def _same_id(bridge: Bridge, value: Any, wanted: int) -> bool:
    return identifier(value) == wanted


def _member(bridge: Bridge, value: Any, wanted: int) -> bool:
    members = value if isinstance(value, list) else []
    return any(isinstance(one, dict) and identifier(one.get("contactID")) == wanted for one in members)


def _since(bridge: Bridge, value: Any, wanted: datetime) -> bool:
    return (moment := event_time(value)) is not None and moment >= wanted


def _until(bridge: Bridge, value: Any, wanted: datetime) -> bool:
    return (moment := event_time(value)) is not None and moment <= wanted


def _any_number(bridge: Bridge, item: Item, wanted: str) -> bool:
    return any(_same_number(bridge, item[name], wanted) for name in NUMBERS if item.get(name))


def _named(bridge: Bridge, item: Item, wanted: str) -> bool:
    return _folded(wanted) in _folded(" ".join(str(item[name]) for name in NAMES if item.get(name)))


def _folded(text: str) -> str:
    """Return the text without letter case and accents, and with single spaces."""
    bare = (one for one in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(one))
    return " ".join("".join(bare).split())


# How a parameter is compared with a field of the item, or with the whole item where none is named. Of the fields for
# one parameter, that one counts which the item has.
FILTERS: Mapping[str, Mapping[str, Callable[[Bridge, Any, Any], bool]]] = {
    "destination": {"destination": _same_number},
    "source": {"caller": _same_number, "sender": _same_number},
    "direction": {"direction": _equal},
    "contact_id": {"contactID": _same_id, "members": _member},
    "box_id": {"voicemailBoxID": _same_id},
    "date_from": {"callStarted": _since},
    "date_to": {"callStarted": _until},
    "number": {"": _any_number},
    "name": {"": _named},
}


def fits(bridge: Bridge, resource: Resource, values: Mapping[str, Any]) -> Callable[[Item], bool]:
    """Return a test for what these values ask for of the resource's items; values that are no filter are left aside."""
    wanted, above = values.get(resource.id_parameter), values.get(resource.cursor_parameter) or -1
    asked = [name for name in FILTERS if name in values and name != resource.id_parameter]

    def test(item: Item) -> bool:
        number = identifier(item.get(resource.id_field))
        if (number or 0) <= above or (wanted is not None and number != wanted):
            return False
        return all(_meets(bridge, item, name, values[name]) for name in asked)

    return test


def _meets(bridge: Bridge, item: Item, parameter: str, wanted: Any) -> bool:
    for field, matches in FILTERS[parameter].items():
        value = item.get(field) if field else item
        if value is not None:
            return matches(bridge, value, wanted)
    return parameter == _CONTACT and wanted in _rung(bridge, item)


def _rung(bridge: Bridge, item: Item) -> list[int]:
    """Return the employees that a voicemail's call rang: a voicemail does not name them, its call's story does."""
    started = event_time(item.get("callStarted"))
    if "voicemailID" not in item or started is None:
        return []
    stories = calls(bridge.storage, bridge.settings.default_region)
    call = stories.find(started, item.get("sender"))
    found: list[int] = json.loads(call.get("contacts") or "[]") if call is not None else []
    return found


def by_person(
    bridge: Bridge, resource: Resource, values: Mapping[str, Any], *, chunk: int
) -> tuple[Iterator[Item], Mapping[str, Any]] | None:
    """
    Return the items that a number or an employee has to do with, newest first, and the values that are left to test.

    None where neither is asked for, or nothing points to the resource's items. Items are read `chunk` by chunk.
    """
    storage, region, kind = bridge.storage, bridge.settings.default_region, KINDS.get(resource.name)
    subjects = [people.number(values[name], region) for name in _BY_NUMBER if name in values]
    # A voicemail does not say whom its call rang: the call's story does, and points to it.
    by_story = resource.name == "voicemails" and not subjects
    if _CONTACT in values and (by_story or resource.name != "voicemails"):
        subjects.append(people.employee(values[_CONTACT]))
    if kind is None or not subjects:
        return None
    bounds: dict[str, Any] = {
        "first": _shifted(values.get("date_from"), -1),
        "last": _shifted(values.get("date_to"), 1),
    }
    found = {one: people.find(storage, one, [kind], limit=_FEW, **bounds) for one in subjects}
    rarest = min(subjects, key=lambda one: len(found[one]))
    if by_story:
        values = {name: value for name, value in values.items() if name != _CONTACT}
    return _pointed(storage, resource, _all(storage, rarest, kind, found[rarest], bounds), chunk), values


def _all(
    storage: Storage, subject: str, kind: Kind, first: Sequence[Pointer], bounds: Mapping[str, Any]
) -> Iterator[Pointer]:
    """Yield the pointers of a subject to different things, newest first, of which some are read already."""
    seen, found, limit = set[str](), first, _FEW
    while found:
        yield from (one for one in found if one.id not in seen)
        seen |= {one.id for one in found}
        start, more = found[-1].place, len(found) == limit
        limit = LARGEST_LIMIT
        found = people.find(storage, subject, [kind], limit=limit, start=f"{start}~", **bounds) if more else []


def _pointed(storage: Storage, resource: Resource, found: Iterator[Pointer], chunk: int) -> Iterator[Item]:
    while part := list(islice(found, min(chunk, _MOST_IN_CHUNK))):
        yield from items.pointed(storage, resource.name, part)


def _shifted(moment: datetime | None, days: int) -> datetime | None:
    """Return a bound of dates with some room: callStarted may differ from the start that a callID spells."""
    try:
        return moment + timedelta(days=days) if moment else None
    except OverflowError:
        return None


def with_days(request: Request, zone: ZoneInfo) -> Request:
    """Return the request with each bare date of its query as its whole day of a time zone."""
    query = dict(request.query)
    for name, place in (("date_from", 0), ("date_to", 1)):
        if (day := bare_date(query.get(name, ""))) is not None:
            bound = day_bounds(day, zone)[place]
            query[name] = iso(bound - place * timedelta(microseconds=1))
    return replace(request, query=query)


def spans(resource: Resource, values: Mapping[str, Any]) -> list[tuple[int, int]]:
    """
    Return the ranges of ids, newest first, that hold every wanted item: greater than the first, less than the second.

    A callID that spells the call's start need not be read when its start is out of the range of dates; one that is
    a plain counter says nothing.
    """
    above, below = values.get(resource.cursor_parameter, -1), LARGEST_ID + 1
    start, end = values.get("date_from"), values.get("date_to")
    if resource.id_field != "callID" or (start is None and end is None):
        return [(above, below)]
    first = FIRST_CLOCK_ID if start is None else max(_clock(start) - _SLACK, FIRST_CLOCK_ID)
    last = LAST_CLOCK_ID if end is None else min(_clock(end) + _SLACK, LAST_CLOCK_ID)
    parts = ((LAST_CLOCK_ID, below), (first - 1, last + 1), (-1, FIRST_CLOCK_ID))
    return [(max(above, low), high) for low, high in parts if max(above, low) + 1 < high]


def _clock(moment: datetime) -> int:
    microseconds = int(moment.timestamp()) * MICROSECONDS_PER_SECOND
    return min(max(microseconds, FIRST_CLOCK_ID), LAST_CLOCK_ID)
