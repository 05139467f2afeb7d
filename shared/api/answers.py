"""One way in for every operation that the tables name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api import calls, feed, operations
from shared.api.actions import act
from shared.api.lists import find_items, list_items

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.api.envelopes import Page
    from shared.api.parameters import Request
    from shared.api.sheets import File
    from shared.bridge import Bridge
    from shared.pbx.operations import Operation

    Answer = dict[str, Any] | Page | File

_WORK: Mapping[Operation, Callable[[Bridge, Operation, Request], Answer]] = {
    **dict.fromkeys(operations.ACTIONS, act),
    **dict.fromkeys(operations.LISTS, list_items),
    **dict.fromkeys(operations.LIST_ACTIONS, find_items),
    operations.GET_EVENTS: feed.read,
    operations.GET_CALLS: calls.read,
    operations.GET_CALL: calls.read_one,
    operations.GET_ENDED_CALLS: calls.read_ended,
    operations.GET_LOST_CALLERS: calls.read_lost,
}


def answer(bridge: Bridge, operation: Operation, given: Request) -> Answer:
    """Return the answer of an operation: an envelope, one with a status and headers, or a file."""
    return _WORK[operation](bridge, operation, given)
