"""Polling triggers return each matching arrival once, in order, in batches or one at a time by Location."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from dev.stored import put
from shared.api.envelopes import Page
from shared.api.lists import IDLE_SECONDS, list_items
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.errors import Invalid
from shared.pbx.operations import operation

BASE = "https://func-pbx.azurewebsites.net"
LIST = operation("GetCallHistory")
IDLE = (202, str(IDLE_SECONDS))


def store(bridge: Bridge, *numbers: int, direction: str = "in") -> None:
    put(
        bridge.storage,
        "call_history",
        *({"callID": number, "direction": direction, "destination": "67000123"} for number in numbers),
    )


def ask(bridge: Bridge, **query: Any) -> Page:
    texts = {name: str(value) for name, value in query.items()}
    return list_items(bridge, LIST, Request(query=texts, base=BASE))


def follow(bridge: Bridge, page: Page) -> Page:
    """Request the Location of the last answer."""
    address, _, query = page.headers["Location"].partition("?")
    assert address == f"{BASE}/api/v2/trigger/call_history"
    return ask(bridge, **dict(parse_qsl(query)))


def ids(page: Page) -> list[int]:
    return [item["callID"] for item in page.body["data"]]


def waits(page: Page) -> tuple[int, str]:
    return page.status, page.headers["Retry-After"]


@pytest.mark.parametrize("state", ["now", ""])
def test_a_poll_begins_with_the_present(state: str, bridge: Bridge) -> None:
    store(bridge, 100)
    page = ask(bridge, triggerState=state)
    again = follow(bridge, page)
    assert waits(page) == waits(again) == IDLE
    assert (again.headers, again.body["data"]) == (page.headers, [])
    batch = ask(bridge, state=state)
    assert (batch.status, batch.headers, batch.body["data"]) == (200, {}, [])
    store(bridge, 50)
    assert ids(follow(bridge, again)) == ids(ask(bridge, state=batch.body["state"])) == [50]


def test_a_poll_brings_one_item_at_a_time_until_drained_and_late_ones_too(bridge: Bridge) -> None:
    page = ask(bridge, triggerState="0")
    assert waits(page) == IDLE
    store(bridge, 12, 11)
    store(bridge, 2)
    found = []
    while (page := follow(bridge, page)).status == 200:
        assert waits(page) == (200, "0")
        found += ids(page)
    assert (sorted(found[:2]), found[2:]) == ([11, 12], [2])
    assert waits(page) == IDLE
    assert follow(bridge, page).headers == page.headers


def test_a_poll_keeps_its_filters_and_passes_over_the_rest(bridge: Bridge) -> None:
    page = ask(bridge, triggerState="now", direction="out", destination="+371 67000123", code="secret")
    assert "secret" not in page.headers["Location"]
    store(bridge, *range(1, 131))
    store(bridge, 200, direction="out")
    store(bridge, *range(300, 430))
    page = follow(bridge, page)
    assert (page.status, ids(page)) == (200, [200])
    page = follow(bridge, page)
    assert waits(page) == IDLE
    store(bridge, 500, direction="out")
    assert ids(follow(bridge, page)) == [500]


def batches(bridge: Bridge, state: str, **query: Any) -> list[list[int]]:
    """Poll by the state of the last answer, as a connector does, until nothing is new; return the items."""
    found = []
    while True:
        page = ask(bridge, state=state, **query)
        if not page.body["data"] and page.body["state"] == state:
            return found
        found.append(ids(page))
        state = page.body["state"]


def test_a_batch_goes_on_where_a_list_or_a_batch_ended(bridge: Bridge) -> None:
    store(bridge, 5)
    state = ask(bridge).body["state"]
    store(bridge, 7)
    store(bridge, 1)
    assert batches(bridge, state) == [[7, 1]]
    assert batches(bridge, state, limit=1) == [[7], [1]]


@pytest.mark.slow
def test_a_batch_keeps_to_filters_and_limit_and_loses_nothing(bridge: Bridge) -> None:
    for number in range(0, 1900, 100):
        direction = "in" if number % 300 else "out"
        store(bridge, number + 1, direction=direction)
        store(bridge, *range(number + 2, number + 101))
    assert [len(one) for one in batches(bridge, "0")] == [1000, 900]
    found = batches(bridge, "0", direction="out", limit=3, offset=2)
    assert [one for one in found if one] == [[1, 301, 601], [901, 1201, 1501], [1801]]


@pytest.mark.parametrize("state", ["soon", "-1", "1" * 19, "1.0"])
def test_a_foreign_state_is_refused(state: str, bridge: Bridge) -> None:
    with pytest.raises(Invalid, match=r"state"):
        ask(bridge, state=state)
