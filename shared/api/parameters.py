"""Checks the inputs of operations against their rows, and matches items with them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from operator import ge, le, lt
from typing import Any

from shared import people
from shared.api.operations import NUMBERS
from shared.bridge import Bridge
from shared.errors import BODY_TOO_LARGE, Invalid, Refused
from shared.pbx.operations import Operation, Parameter
from shared.pbx.resources import RESOURCES
from shared.times import bare_date, day_bounds, event_time, parse_time
from shared.values import FEWEST_DIGITS, LARGEST_ID, LONGEST_BODY, NUMBER_PATTERN, dialled, identifier, parse_body

Item = Mapping[str, Any]
Test = Callable[[Bridge, Any, Any], bool]

LARGEST_LIMIT = 1000
# Parameters of the host: the function key and its name.
_ALWAYS = ("code", "clientid")
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
# An unencoded plus arrives as a space.
_LOST_PLUS = re.compile(r" (?=[0-9]{2}:?[0-9]{2}\Z)")
# Clients send the years 1 and 9999 for no bound; these replace them. Both have a 29 February.
_FIRST_YEAR, _LAST_YEAR = 1604, 8996
_YEAR = re.compile(r"\A[0-9]{4}(?=-)", re.ASCII)
# The fields that make up a name.
NAMES = tuple(dict.fromkeys(name for row in RESOURCES for name in row.title))


@dataclass(frozen=True, slots=True)
class Request:
    """A request's path parameters, query, body and headers, and the app's address for links in the answer."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    base: str = ""


def limits(parameter: Parameter) -> dict[str, Any]:
    """
    Return the bounds or the pattern of a parameter's values, by their names in JSON Schema.

    Identifiers are 1 to 2^63 - 1, in any spelling that `identifier` reads. `limit` is 1 to 1000. `offset` and
    parameters with a default may be 0. A `string` without choices is a phone number.
    """
    if parameter.type == "integer":
        least = 0 if parameter.name == "offset" or parameter.default is not None else 1
        return {"minimum": least, "maximum": LARGEST_LIMIT if parameter.name == "limit" else LARGEST_ID}
    if parameter.type == "text":
        return {"pattern": r"\S"}
    return {"pattern": NUMBER_PATTERN, "minLength": FEWEST_DIGITS} if is_number(parameter) else {}


def is_number(parameter: Parameter) -> bool:
    """Return True if a parameter's values are phone numbers."""
    return parameter.type == "string" and not parameter.choices


def takes_body(operation: Operation) -> bool:
    """Return True if an operation has parameters in the body."""
    return any(parameter.where == "body" for parameter in operation.parameters)


def check_names(query: Collection[str], known: Collection[str]) -> None:
    """Raise Invalid for unknown parameters of a query: with a misspelt filter, everything would match."""
    unknown = [name for name in query if name not in known and name.lower() not in _ALWAYS]
    if unknown:
        names = ", ".join(sorted(known)) or "none"
        raise Invalid(dict.fromkeys(unknown, f"unknown; known parameters: {names}"))


def check(operation: Operation, request: Request, *, zone: tzinfo = UTC, also: Collection[str] = ()) -> dict[str, Any]:
    """
    Return an operation's values by name, without those that are absent.

    Numbers are exact, phone numbers are digits with or without a plus, times are in UTC, and a bare date is its whole
    day in `zone`. An empty value is invalid, because everything would match an empty filter; for a parameter with a
    default it is the default. Parameters in `also` are allowed, and read by the caller. Raises Refused for a body that
    is not JSON, and Invalid with the reason for each invalid field.
    """
    check_names(request.query, {row.name for row in operation.parameters if row.where == "query"} | set(also))
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    body = _body(request) if takes_body(operation) else {}
    parts: Mapping[str, Mapping[str, Any]] = {"path": request.path, "query": request.query, "body": body}
    for parameter in operation.parameters:
        raw = parts[parameter.where].get(parameter.name)
        try:
            if raw is not None and (raw != "" or parameter.default is None):
                values[parameter.name] = _read(parameter, raw, zone)
            elif parameter.required and parameter.default is None:
                raise ValueError("it is required")
        except ValueError as error:
            wrong[parameter.name] = str(error)
    if wrong:
        raise Invalid(wrong)
    return values


def _body(request: Request) -> Mapping[str, Any]:
    if len(request.body) > LONGEST_BODY:
        raise Refused(BODY_TOO_LARGE)
    body = parse_body(request.body)
    if not isinstance(body, dict):
        raise Invalid({"body": "an object is expected"})
    return body


def _read(parameter: Parameter, raw: Any, zone: tzinfo) -> Any:
    if raw == "":
        raise ValueError("it is empty")
    if parameter.type == "integer":
        return _integer(parameter, raw)
    if not isinstance(raw, str):
        raise ValueError("a text is expected")
    if parameter.type == "date-time":
        return _bound(parameter.name, raw.strip(), zone)
    if is_number(parameter):
        return dialled(raw)
    if parameter.type == "text" and not raw.strip():
        raise ValueError("it is empty")
    if parameter.choices and raw not in parameter.choices:
        raise ValueError(f"one of {', '.join(parameter.choices)} is expected")
    return raw


def _integer(parameter: Parameter, raw: Any) -> int:
    number = None if parameter.name in ("limit", "offset") else identifier(raw)
    if number is None:
        if not isinstance(raw, str) or not _INTEGER.fullmatch(raw):
            raise ValueError("a whole number is expected")
        number = int(raw)
    bounds = limits(parameter)
    if not bounds["minimum"] <= number <= bounds["maximum"]:
        raise ValueError(f"{bounds['minimum']} to {bounds['maximum']} is expected")
    return number


def _bound(name: str, text: str, zone: tzinfo) -> datetime:
    """Return a time as a bound; a bare date is its start, for `date_to` its end, for `to` the start of the next day."""
    text = _YEAR.sub(lambda year: str(min(max(int(year[0]), _FIRST_YEAR), _LAST_YEAR)), text)
    if (day := bare_date(text)) is not None:
        first, end = day_bounds(day, zone)
        return {"to": end, "date_to": end - timedelta(microseconds=1)}.get(name, first)
    try:
        return parse_time(_LOST_PLUS.sub("+", text))
    except ValueError:
        raise ValueError("a date and time is expected, such as 2024-05-31T12:00:00Z") from None


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
    return any(isinstance(member, dict) and identifier(member.get("contactID")) == wanted for member in members)


def _rang(bridge: Bridge, item: Item, wanted: int) -> bool:
    """Return True if a voicemail's call rang an employee, by the index."""
    started = event_time(item.get("callStarted"))
    if "voicemailID" not in item or started is None:
        return False
    near = people.find(bridge.storage, people.employee(wanted), ["voicemail"], first=started, last=started)
    return any(identifier(pointer.id) == identifier(item["voicemailID"]) for pointer in near)


def _in_time(bridge: Bridge, value: Any, wanted: datetime, *, by: Callable[[datetime, datetime], bool]) -> bool:
    return (moment := event_time(value)) is not None and by(moment, wanted)


def _named(bridge: Bridge, item: Item, wanted: str) -> bool:
    return _folded(wanted) in _folded(" ".join(str(item[name]) for name in NAMES if item.get(name)))


def _folded(text: str) -> str:
    """Return the text without letter case and accents, and with single spaces."""
    letters = unicodedata.normalize("NFD", text.casefold())
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())


# Each parameter's tests by the field of an item; a field without a name is the item itself. The first field that the
# item has is tested.
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
    """Return True if an item matches all values that are filters."""
    return all(_meets(bridge, item, name, values[name]) for name in values if name in FILTERS)


def _meets(bridge: Bridge, item: Item, parameter: str, wanted: Any) -> bool:
    for name, matches in FILTERS[parameter].items():
        value = item.get(name) if name else item
        if value is not None:
            return matches(bridge, value, wanted)
    return False
