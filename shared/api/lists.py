"""Lists and list actions: stored items by filters, newest first or in the order of their arrival."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from shared import people
from shared.api import sheets
from shared.api.envelopes import DEFAULT_LIMIT, Page, succeeded, tidy
from shared.api.operations import TITLE
from shared.api.parameters import LARGEST_LIMIT, Request, check, fits
from shared.bridge import Bridge
from shared.errors import Invalid
from shared.items import store as items
from shared.items.store import KINDS, Item
from shared.pbx import resources
from shared.pbx.operations import Operation
from shared.pbx.resources import Resource
from shared.times import FIRST_CLOCK_ID, LAST_CLOCK_ID, clock
from shared.values import LARGEST_ID

Arrivals = Callable[[str, int], Sequence[tuple[str, Item | None]]]

_PAGE = 1000
# Pointers in a subject's first read, and items read at once.
_FEW, _MOST_IN_CHUNK = 200, 96
# callStarted may differ from the time in a callID.
_SLACK = timedelta(days=1)

STATE, TRIGGER_STATE = "state", "triggerState"
STATES = (STATE, TRIGGER_STATE)
STATE_PATTERN = r"^(now|[0-9]{1,18})?$"
IDLE_SECONDS = 30
# Further arrivals that a request reads in search of matches.
_FURTHER = (1000,) * 4


def resource_of(row: Operation) -> Resource:
    """Return the resource of a list or list action."""
    return resources.resource(row.path.removeprefix("trigger/"))


def find_items(bridge: Bridge, row: Operation, request: Request) -> dict[str, Any] | sheets.File:
    """
    Return the matching stored items, newest first: `limit` (50) after `offset`, or all of them as a file.

    An item's name is its `title`. Raises Invalid, or StorageUnavailable.
    """
    values, resource = check(row, request, zone=bridge.settings.time_zone), resource_of(row)
    selected = _select(bridge, resource, values | {"limit": sheets.limit_of(values)})
    return sheets.listed(bridge, row, values, (tidy(_titled(resource, item), row.item) for item in selected))


def _titled(resource: Resource, item: Item) -> Item:
    if not resource.title:
        return item
    words = [str(item[name]).strip() for name in resource.title if item.get(name)]
    return item | {TITLE.name: " ".join(words) or str(item[resource.id_field])}


def list_items(bridge: Bridge, row: Operation, request: Request) -> Page:
    """
    Return the answer of a list, from storage alone; see `answer`.

    The newest items are `limit` (50) after `offset`. With `initial_…` they are the `limit` (1,000) smallest ids above
    it, newest first: the first item's id is the next `initial_…`. Raises Invalid, or StorageUnavailable.
    """
    values = check(row, request, zone=bridge.settings.time_zone, also=STATES)
    storage, resource = bridge.storage, resource_of(row)
    limit = LARGEST_LIMIT if values.get(resource.cursor_parameter) else DEFAULT_LIMIT

    def after(state: str, size: int) -> list[tuple[str, Item | None]]:
        arrivals = items.arrived_after(storage, resource.name, state, size)
        return [(at, tidy(item, row.item) if fits(bridge, item, values) else None) for at, item in arrivals]

    def newest() -> Iterator[Item]:
        return (tidy(item, row.item) for item in _select(bridge, resource, {"limit": limit} | values))

    present = partial(items.present, storage, resource.name)
    return answer(row, request, values, present=present, after=after, newest=newest)


def _select(bridge: Bridge, resource: Resource, values: Mapping[str, Any]) -> list[Item]:
    """Return the stored items that match an operation's values, newest first."""
    rising = bool(values.get(resource.cursor_parameter))
    stored: Iterable[Item]
    if (wanted := values.get(resource.id_parameter)) is not None:
        item = items.get(bridge.storage, resource.name, wanted)
        stored = [] if item is None else [item]
    elif (subjects := _subjects(bridge, resource, values)) and (kind := KINDS.get(resource.name)):
        stored = _of_person(bridge, resource, kind, subjects, values)
        stored = reversed(list(stored)) if rising else stored
        if resource.name == "voicemails":
            # The index alone has the employees whom a voicemail's call rang.
            values = {name: value for name, value in values.items() if name != "contact_id"}
    else:
        stored = _in_order(bridge, resource, values, rising=rising)
    fitting = (item for item in stored if fits(bridge, item, values))
    # In two steps, because the sum may exceed what islice accepts.
    selected = list(islice(islice(fitting, values.get("offset", 0), None), values["limit"]))
    return selected[::-1] if rising else selected


def _in_order(bridge: Bridge, resource: Resource, values: Mapping[str, Any], *, rising: bool) -> Iterator[Item]:
    """Yield the items of the spans, in order; with filters they are read in whole pages."""
    is_filtered = values.keys() - {"limit", "offset", "format", resource.cursor_parameter}
    page = _PAGE if is_filtered else values["limit"] + values.get("offset", 0)
    spans = _spans(resource, values)
    for above, below in reversed(spans) if rising else spans:
        if rising:
            yield from items.upwards(bridge.storage, resource.name, above=above, below=below)
        else:
            yield from items.downwards(bridge.storage, resource.name, above=above, below=below, page=page)


def _spans(resource: Resource, values: Mapping[str, Any]) -> list[tuple[int, int]]:
    """
    Return the ranges of ids, newest first, that contain all matches: ids above the first number, below the second.

    A callID made of a time narrows a range of dates; other ids are all included.
    """
    above, below = values.get(resource.cursor_parameter, -1), LARGEST_ID + 1
    start, end = values.get("date_from"), values.get("date_to")
    if resource.id_field != "callID" or not (start or end):
        return [(above, below)]
    first = max(clock(start - _SLACK), FIRST_CLOCK_ID) if start else FIRST_CLOCK_ID
    last = min(clock(end + _SLACK), LAST_CLOCK_ID) if end else LAST_CLOCK_ID
    parts = ((LAST_CLOCK_ID, below), (first - 1, last + 1), (-1, FIRST_CLOCK_ID))
    return [(max(above, low), high) for low, high in parts]


def _subjects(bridge: Bridge, resource: Resource, values: Mapping[str, Any]) -> list[str]:
    """Return the subjects among the values, numbers and an employee; the index has all matches of each."""
    region = bridge.settings.default_region
    numbers = [people.number(values[name], region) for name in ("source", "destination", "number") if name in values]
    if "contact_id" not in values:
        return numbers
    employee = people.employee(values["contact_id"])
    return [employee] if resource.name == "voicemails" else [*numbers, employee]


def _of_person(
    bridge: Bridge, resource: Resource, kind: people.Kind, subjects: Sequence[str], values: Mapping[str, Any]
) -> Iterator[Item]:
    """Yield the items of the rarest of these subjects, newest first."""
    first, last = values.get("date_from"), values.get("date_to")
    bounds: dict[str, Any] = {"first": first and first - _SLACK, "last": last and last + _SLACK}
    first_pages = {subject: people.find(bridge.storage, subject, [kind], limit=_FEW, **bounds) for subject in subjects}
    rarest = min(subjects, key=lambda subject: len(first_pages[subject]))

    def pointers() -> Iterator[people.Pointer]:
        seen, page, limit = set[str](), first_pages[rarest], _FEW
        while page:
            yield from (pointer for pointer in page if pointer.id not in seen)
            seen.update(pointer.id for pointer in page)
            start, is_full, limit = f"{page[-1].place}~", len(page) == limit, LARGEST_LIMIT
            page = people.find(bridge.storage, rarest, [kind], limit=limit, start=start, **bounds) if is_full else []

    left, chunk = pointers(), min(values["limit"] + values.get("offset", 0), _MOST_IN_CHUNK)
    while part := list(islice(left, chunk)):
        yield from items.pointed(bridge.storage, resource.name, part)


def answer(
    row: Operation,
    request: Request,
    values: Mapping[str, Any],
    *,
    present: Callable[[], str],
    after: Arrivals,
    newest: Callable[[], Iterable[Item]],
) -> Page:
    """
    Return the answer of a list that is a polling trigger.

    | The query has | The answer has |
    |---|---|
    | neither state | the `newest` items |
    | `state` | the matching arrivals after it, oldest first: up to `limit` (1,000); none if it is empty or `now` |
    | `triggerState` | the next arrival, by Logic Apps' polling contract: `Location` and `Retry-After` |

    The first two have the next `state` beside `data`. Raises Invalid.
    """
    # Both are checked, even if only `triggerState` counts.
    states = {name: _state(name, request.query[name]) for name in STATES if name in request.query}
    if not states:
        # Read before the items, so that an arrival in between is listed twice rather than never.
        state = present()
        return Page(body=succeeded(list(newest())) | {STATE: state})
    if TRIGGER_STATE not in states:
        arrived, state, _ = _arrivals(after, states[STATE] or present(), values.get("limit", LARGEST_LIMIT))
        return Page(body=succeeded(arrived) | {STATE: state})
    arrived, state, is_idle = _arrivals(after, states[TRIGGER_STATE] or present(), 1)
    filters = {parameter.name: text for parameter in row.parameters if (text := request.query.get(parameter.name))}
    location = f"{request.base}/api/v2/{row.path}?{urlencode(filters | {TRIGGER_STATE: state})}"
    headers = {"Location": location, "Retry-After": str(IDLE_SECONDS if is_idle else 0)}
    status = 200 if arrived else 202
    return Page(body=succeeded(arrived, status), status=status, headers=headers)


def _state(name: str, text: str) -> str:
    """Return the state in a request, empty for the present; raises Invalid."""
    text = text.strip()
    if not re.fullmatch(STATE_PATTERN, text):
        raise Invalid({name: "now, or the state of the last answer, is expected"})
    return "" if text == "now" else text


def _arrivals(after: Arrivals, state: str, limit: int) -> tuple[list[Item], str, bool]:
    """Return matching arrivals, the state after the last one that was read, and True if there are no more."""
    matching: list[Item] = []
    # Usually the next arrivals match, so that the first read is enough.
    for size in (limit, *_FURTHER):
        arrivals = after(state, size)
        for at, item in arrivals:
            state = at
            if item is not None:
                matching.append(item)
            if len(matching) == limit:
                return matching, state, False
        if len(arrivals) < size:
            return matching, state, True
    return matching, state, False
