"""Lists: what the pollers have stored, newest first or in the order of arrival, filtered as the PBX does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from shared.api.envelopes import succeeded, tidy
from shared.api.list_filters import spans, tests
from shared.api.parameters import LARGEST_LIMIT, Given, check
from shared.errors import FieldError, Invalid
from shared.items import reader as items
from shared.pbx.operations import Operation, operation
from shared.pbx.resources import RESOURCES, Resource
from shared.storage.account import reaching_storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage

STATE = "triggerState"
STATE_PATTERN = r"^(now|[0-9]{1,18})?$"
DEFAULT_LIMIT = 50
# The pollers bring calls, recordings and voicemails each minute.
IDLE_SECONDS = 30
_PAGE = 1000
# Arrivals that one request looks at, a few first: most often the next one is wanted.
_GLANCES = (1, 100, 1000, 1000)

_RESOURCE: Mapping[str, Resource] = {row.list_operation: row for row in RESOURCES}
LISTS: tuple[Operation, ...] = tuple(operation(id) for id in _RESOURCE)

Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a list answers."""

    body: dict[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def brought(bridge: Bridge, row: Operation, given: Given, base: str) -> Page:
    """
    What a list brings, from our storage alone.

    Newest first by default: `limit` items after `offset`, all with a greater id than `initial_…` says: 50, or 1,000
    where that is a state, as the greatest id of an answer is the next one. With
    `triggerState` in the query, the next item in the order of arrival, by the polling contract of Logic Apps:
    `base` is what the `Location` begins with. Raises Invalid, or StorageUnavailable.
    """
    values, resource = check(row, given), _RESOURCE[row.id]
    with reaching_storage():
        if STATE in given.query:
            return _arrived(bridge, row, resource, values, _Place(given, f"{base}/api/v2/{row.path}"))
        found = islice(_newest(bridge, resource, values), values.get("offset", 0), None)
        wanted = islice(found, _limit(resource, values))
        return Page(body=succeeded([tidy(item, row.item) for item in wanted]))


def _newest(bridge: Bridge, resource: Resource, values: Mapping[str, Any]) -> Iterator[Item]:
    passes = tests(resource, values)
    for item in _stored(bridge.storage, resource, values):
        if all(test(bridge, item) for test in passes):
            yield item


def _stored(storage: Storage, resource: Resource, values: Mapping[str, Any]) -> Iterator[Item]:
    """Items that may be wanted, greatest id first."""
    if resource.id_parameter in values:
        item = items.get(storage, resource.name, values[resource.id_parameter])
        if item is not None:
            yield item
        return
    # Without filters one page is enough; with them, who knows.
    size = values.get("offset", 0) + _limit(resource, values)
    for above, below in spans(resource, values):
        page = items.query(storage, resource.name, below=below, above=above, limit=min(size, _PAGE))
        while page:
            yield from page
            page = items.query(storage, resource.name, below=_id(resource, page[-1]), above=above, limit=_PAGE)


def _limit(resource: Resource, values: Mapping[str, Any]) -> int:
    limit: int = values.get("limit") or (LARGEST_LIMIT if values.get(resource.cursor_parameter) else DEFAULT_LIMIT)
    return limit


def _id(resource: Resource, item: Item) -> int:
    return int(item[resource.id_field])


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a poll stands: the request that came, and the address that it came to."""

    given: Given
    url: str

    def state(self) -> str | None:
        """The state after the arrival that was told last; None to begin with."""
        text = self.given.query[STATE].strip()
        if not re.fullmatch(STATE_PATTERN, text):
            raise Invalid((FieldError(STATE, "now, or the state in the last answer's Location, is expected"),))
        return None if text in ("", "now") else text

    def next(self, row: Operation, state: str, wait: int) -> dict[str, str]:
        """The headers that say where to ask next, and when."""
        query = {parameter.name: self.given.query.get(parameter.name, "") for parameter in row.parameters}
        kept = {name: value for name, value in query.items() if value}
        return {"Location": f"{self.url}?{urlencode(kept | {STATE: state})}", "Retry-After": str(wait)}


def _arrived(bridge: Bridge, row: Operation, resource: Resource, values: Mapping[str, Any], place: _Place) -> Page:
    state, passes = place.state(), tests(resource, values)
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
