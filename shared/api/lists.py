"""Lists and list actions: what the pollers have stored, newest first or as it arrived, filtered or looked up."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from shared.api import sheets
from shared.api.envelopes import succeeded, tidy
from shared.api.list_filters import FILTERS, by_person, fits, spans, with_days
from shared.api.operations import TITLE
from shared.api.parameters import LARGEST_LIMIT, Request, check
from shared.errors import Invalid
from shared.items import reader as items
from shared.items.store import Item
from shared.pbx.resources import RESOURCES, Resource
from shared.storage.account import reaching_storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.bridge import Bridge
    from shared.pbx.operations import Operation
    from shared.storage.account import Storage

TRIGGER_STATE = "triggerState"
STATE = "state"
STATE_PATTERN = r"^(now|[0-9]{1,18})?$"
DEFAULT_LIMIT = 50
# The pollers bring calls, recordings and voicemails each minute.
IDLE_SECONDS = 30
_PAGE = 1000
# Arrivals that one request looks at: by Location a few first, as most often the next one is wanted.
_GLANCES = (1, 100, 1000, 1000)
_MOST_PAGES = 5
_RESOURCE: Mapping[str, Resource] = {id: row for row in RESOURCES for id in (row.list_operation, row.list_action)}


def resource_of(row: Operation) -> Resource:
    """Return the resource of a list or list action."""
    return _RESOURCE[row.id]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The answer of a list."""

    body: dict[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def find_items(bridge: Bridge, row: Operation, given: Request) -> dict[str, Any] | sheets.File:
    """
    Return the stored items that fit, newest first: `limit` (50) after `offset`, those that makers pick from with a
    `title`; or all of them as a file. Raises Invalid, or StorageUnavailable.
    """
    values, resource = check(row, with_days(given, bridge.settings.time_zone)), resource_of(row)
    if (kind := values.get("format", "json")) != "json":
        values = {"limit": sheets.MOST_ROWS + 1} | values
    with reaching_storage():
        found = _select(bridge, resource, values)
    if kind != "json":
        return sheets.written(bridge, (tidy(item, row.item) for item in found), row.item, kind, row.path)
    return succeeded([tidy(_titled(resource, item), row.item) for item in found])


def _titled(resource: Resource, item: Item) -> Item:
    if not resource.title:
        return item
    words = [str(item[name]).strip() for name in resource.title if item.get(name)]
    return item | {TITLE.name: " ".join(words) or str(item[resource.id_field])}


def list_items(bridge: Bridge, row: Operation, given: Request, base: str) -> Page:
    """
    Return the answer of a list, from our storage alone.

    | The query has | The answer holds |
    |---|---|
    | none of these | `limit` items (50) after `offset`, newest first |
    | `initial_…` | the `limit` (1,000) smallest ids above it, newest first: the first one asks for the rest |
    | `state` | what arrived after it, in that order: up to `limit` (1,000) items; none where it is empty or `now` |
    | `triggerState` | the next arrival, by Logic Apps' polling contract: `base` is what its `Location` begins with |

    All but the last have the state to ask by next beside `data`. Raises Invalid, or StorageUnavailable.
    """
    dated = with_days(given, bridge.settings.time_zone)
    values, resource = check(row, dated, also=(STATE, TRIGGER_STATE)), resource_of(row)
    # Also the one that the other makes of no use.
    states = {name: state_of(name, given.query[name]) for name in (STATE, TRIGGER_STATE) if name in given.query}
    with reaching_storage():
        if TRIGGER_STATE in states:
            return _next_arrival(bridge, row, given, values, f"{base}/api/v2/{row.path}")
        if STATE in states:
            state = states[STATE] or items.present(bridge.storage, resource.name)
            found, state = _arrivals(bridge, resource, values, state)
        else:
            # What arrives from here on is asked for again rather than left out.
            state = items.present(bridge.storage, resource.name)
            found = _select(bridge, resource, values)
        return Page(body=succeeded([tidy(item, row.item) for item in found]) | {STATE: state})


def _select(bridge: Bridge, resource: Resource, values: Mapping[str, Any]) -> list[Item]:
    """Return the stored items that fit an operation's values, newest first."""
    storage, wanted, cursor = bridge.storage, values.get(resource.id_parameter), values.get(resource.cursor_parameter)
    size: int = values.get("limit") or (LARGEST_LIMIT if cursor else DEFAULT_LIMIT)
    offset = values.get("offset", 0)
    rising = bool(cursor) and wanted is None
    stored: Iterator[Item]
    if wanted is not None:
        item = items.get(storage, resource.name, wanted)
        stored = iter([] if item is None else [item])
    elif (pointed := by_person(bridge, resource, values, chunk=size + offset)) is not None:
        stored, values = pointed
        stored = reversed(list(stored)) if rising else stored
    else:
        stored = _listed(storage, resource, values, size + offset, rising=rising)
    # In two steps, as both together may be more than islice takes.
    found = list(islice(islice(filter(fits(bridge, resource, values), stored), offset, None), size))
    return found[::-1] if rising else found


def _listed(
    storage: Storage, resource: Resource, values: Mapping[str, Any], count: int, *, rising: bool
) -> Iterator[Item]:
    """Yield the items that may be wanted; without filters as many are read as are wanted, with them whole pages."""
    ranges = spans(resource, values)
    page = _PAGE if values.keys() & FILTERS.keys() else min(count, _PAGE)
    for above, below in reversed(ranges) if rising else ranges:
        if rising:
            yield from items.upwards(storage, resource.name, above=above, below=below)
        else:
            yield from items.downwards(storage, resource.name, above=above, below=below, page=page)


def state_of(name: str, text: str) -> str | None:
    """Return the state in a request; None to begin with the present."""
    text = text.strip()
    if not re.fullmatch(STATE_PATTERN, text):
        raise Invalid({name: "now, or the state that the last answer gave, is expected"})
    return None if text in ("", "now") else text


def _arrivals(bridge: Bridge, resource: Resource, values: Mapping[str, Any], after: str) -> tuple[list[Item], str]:
    """Return the arrivals after a state that fit, oldest first, and the state after the last one looked at."""
    fitting, limit, found = fits(bridge, resource, values), values.get("limit", LARGEST_LIMIT), list[Item]()
    for _ in range(_MOST_PAGES):
        arrivals = items.arrived_after(bridge.storage, resource.name, after, _PAGE)
        for state, item in arrivals:
            after = state
            if fitting(item):
                found.append(item)
            if len(found) == limit:
                return found, after
        if len(arrivals) < _PAGE:
            break
    return found, after


def _next_arrival(bridge: Bridge, row: Operation, given: Request, values: Mapping[str, Any], url: str) -> Page:
    """Return the first arrival after a state that fits, with when and where to ask next."""
    resource, kept = resource_of(row), {one.name: given.query.get(one.name) for one in row.parameters}

    def page(state: str, wait: int, *found: Item) -> Page:
        query = {name: text for name, text in kept.items() if text} | {TRIGGER_STATE: state}
        headers = {"Location": f"{url}?{urlencode(query)}", "Retry-After": str(wait)}
        status = 200 if found else 202
        return Page(body=succeeded([tidy(item, row.item) for item in found], status), status=status, headers=headers)

    state = state_of(TRIGGER_STATE, given.query[TRIGGER_STATE])
    if state is None:
        return page(items.present(bridge.storage, resource.name), IDLE_SECONDS)
    fitting = fits(bridge, resource, values)
    for glance in _GLANCES:
        arrivals = items.arrived_after(bridge.storage, resource.name, state, glance)
        for state, item in arrivals:
            if fitting(item):
                return page(state, 0, item)
        if len(arrivals) < glance:
            return page(state, IDLE_SECONDS)
    return page(state, 0)
