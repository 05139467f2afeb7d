"""Lists: what the pollers have stored, newest first or in the order of arrival, filtered as the PBX does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from shared.api.envelopes import succeeded, tidy
from shared.api.list_filters import by_party, spans, tests
from shared.api.parameters import LARGEST_LIMIT, Given, check
from shared.errors import FieldError, Invalid
from shared.items import index
from shared.items import reader as items
from shared.pbx.operations import operation
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
_MOST_LOOKED_AT = 5 * _PAGE

_RESOURCE: Mapping[str, Resource] = {row.list_operation: row for row in RESOURCES}
LISTS: tuple[Operation, ...] = tuple(operation(id) for id in _RESOURCE)

Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a list answers."""

    body: dict[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def list_items(bridge: Bridge, row: Operation, given: Given, base: str) -> Page:
    """
    What a list brings, from our storage alone.

    | The query has | The answer holds |
    |---|---|
    | none of these | `limit` items (50) after `offset`, newest first |
    | `initial_…` | the `limit` (1,000) smallest ids above it, newest first: the first one asks for the rest |
    | `state` | what arrived after it, in that order: up to `limit` (1,000) items; none where it is empty or `now` |
    | `triggerState` | the next arrival, by Logic Apps' polling contract: `base` is what its `Location` begins with |

    All but the last have the state to ask by next beside `data`. Raises Invalid, or StorageUnavailable.
    """
    values, resource = check(row, given), _RESOURCE[row.id]
    for name in {TRIGGER_STATE, STATE} & given.query.keys():
        # Also the one that the other makes of no use.
        _state(given, name)
    with reaching_storage():
        if TRIGGER_STATE in given.query:
            return _next_arrival(bridge, row, resource, values, _Place(given, f"{base}/api/v2/{row.path}"))
        if STATE in given.query:
            state = _state(given, STATE) or items.present(bridge.storage, resource.name)
            found, state = _arrivals(bridge, resource, values, state)
        else:
            # What arrives from here on is asked for again rather than left out.
            state = items.present(bridge.storage, resource.name, recent=True)
            found = select(bridge, resource, values)
        return Page(body=succeeded([tidy(item, row.item) for item in found]) | {STATE: state})


def select(bridge: Bridge, resource: Resource, values: Mapping[str, Any]) -> list[Item]:
    """The stored items that fit an operation's values, newest first."""
    cursor, offset = values.get(resource.cursor_parameter), values.get("offset", 0)
    size: int = values.get("limit") or (LARGEST_LIMIT if cursor else DEFAULT_LIMIT)
    rising = bool(cursor) and resource.id_parameter not in values
    known = None if resource.id_parameter in values else by_party(bridge, resource, values)
    storage = bridge.storage
    if known is not None:
        chosen, values = known
        stored = index.pick(storage, resource.name, chosen[::-1] if rising else chosen)
    else:
        stored = _upwards(storage, resource, values) if rising else _downwards(storage, resource, values, size)
    passes = tests(resource, values)
    fitting = (item for item in stored if all(test(bridge, item) for test in passes))
    found = list(islice(islice(fitting, offset, None), size))
    return found[::-1] if rising else found


def _upwards(storage: Storage, resource: Resource, values: Mapping[str, Any]) -> Iterator[Item]:
    """Items that may be wanted, smallest id first."""
    for above, below in reversed(spans(resource, values)):
        yield from items.upwards(storage, resource.name, above=above, below=below)


def _downwards(storage: Storage, resource: Resource, values: Mapping[str, Any], size: int) -> Iterator[Item]:
    """Items that may be wanted, greatest id first."""
    if resource.id_parameter in values:
        item = items.get(storage, resource.name, values[resource.id_parameter])
        if item is not None:
            yield item
        return
    # Without filters one page is enough; with them, who knows.
    size += values.get("offset", 0)
    for above, below in spans(resource, values):
        page = items.query(storage, resource.name, below=below, above=above, limit=min(size, _PAGE))
        while page:
            yield from page
            last = int(page[-1][resource.id_field])
            page = items.query(storage, resource.name, below=last, above=above, limit=_PAGE)


def _state(given: Given, name: str) -> str | None:
    """The state in a request; None to begin with the present."""
    text = given.query[name].strip()
    if not re.fullmatch(STATE_PATTERN, text):
        raise Invalid((FieldError(name, "now, or the state that the last answer gave, is expected"),))
    return None if text in ("", "now") else text


def _arrivals(bridge: Bridge, resource: Resource, values: Mapping[str, Any], after: str) -> tuple[list[Item], str]:
    """What arrived after a state and fits, oldest first, and the state after the last one that was looked at."""
    passes, limit, found = tests(resource, values), values.get("limit", LARGEST_LIMIT), list[Item]()
    for _ in range(_MOST_LOOKED_AT // _PAGE):
        arrivals = items.arrived_after(bridge.storage, resource.name, after, _PAGE)
        for state, item in arrivals:
            after = state
            if all(test(bridge, item) for test in passes):
                found.append(item)
            if len(found) == limit:
                return found, after
        if len(arrivals) < _PAGE:
            break
    return found, after


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a poll stands: the request that came, and the address that it came to."""

    given: Given
    url: str

    def next(self, row: Operation, state: str, wait: int) -> dict[str, str]:
        """The headers that say where to ask next, and when."""
        query = {parameter.name: self.given.query.get(parameter.name, "") for parameter in row.parameters}
        kept = {name: value for name, value in query.items() if value}
        return {"Location": f"{self.url}?{urlencode(kept | {TRIGGER_STATE: state})}", "Retry-After": str(wait)}


def _next_arrival(bridge: Bridge, row: Operation, resource: Resource, values: Mapping[str, Any], place: _Place) -> Page:
    state, passes = _state(place.given, TRIGGER_STATE), tests(resource, values)
    if state is None:
        state = items.present(bridge.storage, resource.name)
        return _nothing(place.next(row, state, IDLE_SECONDS))
    for glance in _GLANCES:
        arrivals = items.arrived_after(bridge.storage, resource.name, state, glance)
        for state, item in arrivals:
            if all(test(bridge, item) for test in passes):
                body = succeeded([tidy(item, row.item)])
                return Page(body=body, headers=place.next(row, state, 0))
        if len(arrivals) < glance:
            return _nothing(place.next(row, state, IDLE_SECONDS))
    return _nothing(place.next(row, state, 0))


def _nothing(headers: Mapping[str, str]) -> Page:
    return Page(body=succeeded([], 202), status=202, headers=headers)
