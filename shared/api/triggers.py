"""Polling triggers: the arrivals after a state, in batches or one at a time by Logic Apps' polling contract."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from shared.api.envelopes import Page, succeeded
from shared.api.parameters import LARGEST_LIMIT
from shared.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from shared.api.parameters import Request
    from shared.pbx.operations import Operation

    Item = dict[str, Any]
    # So many arrivals after a state: the state after each, and the item where it fits.
    Arrivals = Callable[[str, int], Sequence[tuple[str, Item | None]]]

STATE, TRIGGER_STATE = "state", "triggerState"
STATES = (STATE, TRIGGER_STATE)
STATE_PATTERN = r"^(now|[0-9]{1,18})?$"
IDLE_SECONDS = 30
# Arrivals that one request looks at; one at a time a few first, as most often the next one is wanted.
_BATCH, _ONE = (1000,) * 5, (1, 100, 1000, 1000)


def answer(
    row: Operation,
    given: Request,
    values: Mapping[str, Any],
    *,
    present: Callable[[], str],
    after: Arrivals,
    newest: Callable[[], Iterable[Item]],
) -> Page:
    """
    Return the answer of a list that is a polling trigger.

    | The query has | The answer holds |
    |---|---|
    | neither of these | the `newest` items |
    | `state` | the arrivals after it that fit, oldest first: up to `limit` (1,000); none where it is empty or `now` |
    | `triggerState` | the next arrival, by Logic Apps' polling contract: `Location` and `Retry-After` |

    The first two have the state to ask by next beside `data`. Raises Invalid.
    """
    # Also the one that the other makes of no use.
    states = {name: _state(name, given.query[name]) for name in STATES if name in given.query}
    if TRIGGER_STATE in states:
        return _next(row, given, states[TRIGGER_STATE], present, after)
    if STATE in states:
        limit = values.get("limit", LARGEST_LIMIT)
        found, state, _ = _arrivals(after, states[STATE] or present(), limit, _BATCH)
    else:
        # Before they are read: what arrives from here on is asked for again rather than left out.
        state = present()
        found = list(newest())
    return Page(body=succeeded(found) | {STATE: state}, status=200, headers={})


def _state(name: str, text: str) -> str | None:
    """Return the state in a request; None to begin with the present."""
    text = text.strip()
    if not re.fullmatch(STATE_PATTERN, text):
        raise Invalid({name: "now, or the state that the last answer gave, is expected"})
    return None if text in ("", "now") else text


def _next(row: Operation, given: Request, state: str | None, present: Callable[[], str], after: Arrivals) -> Page:
    if state is None:
        found, state, is_idle = list[Any](), present(), True
    else:
        found, state, is_idle = _arrivals(after, state, 1, _ONE)
    kept = {one.name: text for one in row.parameters if (text := given.query.get(one.name))}
    location = f"{given.base}/api/v2/{row.path}?{urlencode(kept | {TRIGGER_STATE: state})}"
    headers = {"Location": location, "Retry-After": str(IDLE_SECONDS if is_idle else 0)}
    status = 200 if found else 202
    return Page(body=succeeded(found, status), status=status, headers=headers)


def _arrivals(after: Arrivals, state: str, limit: int, sizes: Iterable[int]) -> tuple[list[Item], str, bool]:
    """Return arrivals that fit, the state after the last one looked at, and True if there are no more."""
    found: list[Item] = []
    for size in sizes:
        arrivals = after(state, size)
        for at, item in arrivals:
            state = at
            if item is not None:
                found.append(item)
            if len(found) == limit:
                return found, state, False
        if len(arrivals) < size:
            return found, state, True
    return found, state, False
