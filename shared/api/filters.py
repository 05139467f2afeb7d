"""Filters of items, calls, lost callers and events: one table for all of them, and one test."""

from __future__ import annotations

import unicodedata
from functools import partial
from operator import ge, le, lt
from typing import TYPE_CHECKING, Any

from shared import people
from shared.api.operations import NUMBERS
from shared.identifiers import identifier
from shared.pbx.resources import RESOURCES
from shared.times import event_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from shared.bridge import Bridge

    Item = Mapping[str, Any]
    Test = Callable[[Bridge, Any, Any], bool]

# The fields that make up a name.
NAMES = tuple(dict.fromkeys(name for row in RESOURCES for name in row.title))


def _equal(bridge: Bridge, value: Any, wanted: Any) -> bool:
    return str(value).lower() == str(wanted).lower()


def _same_number(bridge: Bridge, value: Any, wanted: str) -> bool:
    region = bridge.settings.default_region
    return people.number(str(value), region) == people.number(wanted, region)


def _any_number(bridge: Bridge, item: Item, wanted: str) -> bool:
    return any(_same_number(bridge, item[name], wanted) for name in NUMBERS if item.get(name))


def _same_id(bridge: Bridge, value: Any, wanted: int) -> bool:
    return identifier(value) == wanted


def _greater_id(bridge: Bridge, value: Any, wanted: int) -> bool:
    return (identifier(value) or 0) > wanted


def _among(bridge: Bridge, value: Any, wanted: int) -> bool:
    members = value if isinstance(value, list) else []
    return any(isinstance(one, dict) and identifier(one.get("contactID")) == wanted for one in members)


def _rang(bridge: Bridge, item: Item, wanted: int) -> bool:
    """True if a voicemail's call rang an employee: that is in the index alone."""
    started = event_time(item.get("callStarted"))
    if "voicemailID" not in item or started is None:
        return False
    near = people.find(bridge.storage, people.employee(wanted), ["voicemail"], first=started, last=started)
    return any(identifier(one.id) == identifier(item["voicemailID"]) for one in near)


def _in_time(bridge: Bridge, value: Any, wanted: datetime, *, by: Callable[[datetime, datetime], bool]) -> bool:
    return (moment := event_time(value)) is not None and by(moment, wanted)


def _named(bridge: Bridge, item: Item, wanted: str) -> bool:
    return _folded(wanted) in _folded(" ".join(str(item[name]) for name in NAMES if item.get(name)))


def _folded(text: str) -> str:
    """Return the text without letter case and accents, and with single spaces."""
    bare = (one for one in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(one))
    return " ".join("".join(bare).split())


# How a parameter is compared with a field of the item, or with the whole item where none is named. Of the fields for
# one parameter, that one counts which the item has.
FILTERS: Mapping[str, Mapping[str, Test]] = {
    **{row.id_parameter: {row.id_field: _same_id} for row in RESOURCES},
    **{row.cursor_parameter: {row.id_field: _greater_id} for row in RESOURCES},
    "contact_id": {"contactID": _same_id, "members": _among, "": _rang},
    "employee": {"contacts": _among},
    "source": {"caller": _same_number, "sender": _same_number},
    "destination": {"destination": _same_number},
    "number": {"callerid": _same_number, "": _any_number},
    "name": {"": _named},
    "date_from": {"callStarted": partial(_in_time, by=ge)},
    "date_to": {"callStarted": partial(_in_time, by=le)},
    "from": {"started": partial(_in_time, by=ge)},
    "to": {"started": partial(_in_time, by=lt)},
    **{name: {name: _equal} for name in ("type", "direction", "outcome", "lost", "open")},
}


def fits(bridge: Bridge, item: Item, values: Mapping[str, Any]) -> bool:
    """True if an item is what these values ask for; values that are no filter are left aside."""
    return all(_meets(bridge, item, name, values[name]) for name in values if name in FILTERS)


def _meets(bridge: Bridge, item: Item, parameter: str, wanted: Any) -> bool:
    for field, matches in FILTERS[parameter].items():
        value = item.get(field) if field else item
        if value is not None:
            return matches(bridge, value, wanted)
    return False
