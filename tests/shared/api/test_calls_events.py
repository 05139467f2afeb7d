"""The feed lists events, newest first, without gaps between its pages."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared import people
from shared.api import calls
from shared.api.operations import EVENT, GET_EVENTS
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.errors import Invalid, Refused
from shared.events import store
from shared.events.event import ReceivedEvent, check_envelope, row_of
from shared.events.store import FEED
from shared.events.table import event_named
from shared.times import iso, newest_first
from tests.events import received

START = datetime(2026, 5, 31, 12, tzinfo=UTC)
NAMES = ("CallStarted", "CallConnected", "CallCompleted")


def happening(bridge: Bridge, number: int, name: str, **data: Any) -> dict[str, Any]:
    """Return the feed's row of an event that arrived so many seconds after the start."""
    id = f"{number:052d}".translate(str.maketrans("0123456789", "abcdefghij"))
    at = START + timedelta(seconds=number)
    event = received(name, id=id, at=at, **data)
    people.add(bridge.storage, store.pointers(event, "LV"))
    return row_of(bridge.storage, event) | {"PartitionKey": FEED, "RowKey": f"{newest_first(at)}-{id}"}


def put(bridge: Bridge, rows: list[dict[str, Any]]) -> None:
    bridge.storage.table(FEED).submit_transaction([("create", row) for row in rows])


@pytest.fixture
def ids(bridge: Bridge) -> list[str]:
    """Thirty events of ten calls, newest first."""
    rows = []
    for number in range(30):
        call = {"callID": 100 + number // 3, "contactID": 7, "caller": f"2777115{number % 10}", "remark": number}
        rows.append(happening(bridge, number, NAMES[number % 3], **call, destination="+37167000123"))
    put(bridge, rows)
    return [row["id"] for row in rows][::-1]


def read(bridge: Bridge, **query: Any) -> dict[str, Any]:
    return calls.read_events(bridge, GET_EVENTS, Request(query={name: str(value) for name, value in query.items()}))


def parts(bridge: Bridge, **query: Any) -> Iterator[list[str]]:
    """Yield the ids of each part, to the end."""
    mark: dict[str, str] = {}
    while mark.get("continuation", "") is not None:
        answer = read(bridge, **query, **mark)
        yield [item["id"] for item in answer["data"]]
        mark = {"continuation": answer["continuation"]}


def test_an_item_has_the_event_and_its_origin(bridge: Bridge, ids: list[str]) -> None:
    answer = read(bridge, limit=1)
    assert (answer["statusCode"], answer["status"]) == (200, "success")
    (item,) = answer["data"]
    assert item == {
        "id": ids[0],
        "type": "CallCompleted",
        "version": "v1",
        "origin": "webhook",
        "received": iso(START + timedelta(seconds=29)),
        "happened": iso(START + timedelta(seconds=29)),
        "callID": 109,
        "contactID": 7,
        "data": {"callID": 109, "contactID": 7, "caller": "27771159", "remark": 29, "destination": "+37167000123"},
    }
    assert item.keys() <= {field.name for field in EVENT}


@pytest.mark.parametrize("limit", [1, 7, 30, 31])
def test_pages_have_no_gaps_while_events_arrive(limit: int, bridge: Bridge, ids: list[str]) -> None:
    found: list[str] = []
    for number, part in enumerate(parts(bridge, limit=limit)):
        assert len(part) <= limit
        found += part
        bridge.storage.table(FEED).create_entity(happening(bridge, 100 + number, "CallStarted", callID=1))
    assert found == ids


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"type": "CallConnected"}, lambda number: number % 3 == 1),
        ({"call_id": 104}, lambda number: number // 3 == 4),
        ({"number": "+371 27771153"}, lambda number: number % 10 == 3),
        ({"number": "67000123"}, lambda number: True),
        ({"number": "67000124"}, lambda number: False),
        ({"number": "67000123", "type": "CallConnected"}, lambda number: number % 3 == 1),
        ({"date_from": iso(START + timedelta(seconds=20))}, lambda number: number >= 20),
        ({"date_to": iso(START + timedelta(seconds=20))}, lambda number: number <= 20),
        ({"type": "CallStarted", "number": "27771150", "call_id": 103}, lambda number: False),
        ({"type": "CallConnected", "date_from": iso(START + timedelta(seconds=9.5))}, lambda n: n > 9 and n % 3 == 1),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "wanted",
)
def test_filters_let_through_what_is_asked_for(query: Any, wanted: Any, bridge: Bridge, ids: list[str]) -> None:
    expected = [id for id, number in zip(ids, range(29, -1, -1), strict=True) if wanted(number)]
    assert [item["id"] for item in read(bridge, **query)["data"]] == expected
    assert [id for part in parts(bridge, limit=2, **query) for id in part] == expected


def test_invalid_parameters_are_refused(bridge: Bridge) -> None:
    query = dict.fromkeys(("type", "call_id", "number", "date_from"), "' or 1 eq 1")
    with pytest.raises(Invalid) as refused:
        read(bridge, **query)
    assert refused.value.fields.keys() == query.keys()


@pytest.mark.parametrize(
    "mark",
    ["", "garbage", "é", "=", "A" * 5000, *(base64.urlsafe_b64encode(one * 32).decode() for one in (b"0", b"\xff"))],
    ids=lambda mark: mark[:9],
)
def test_a_foreign_continuation_is_refused(mark: str, bridge: Bridge) -> None:
    with pytest.raises(Refused, match="continuation"):
        read(bridge, continuation=mark)


def test_a_continuation_belongs_to_its_filters(bridge: Bridge, ids: list[str]) -> None:
    mark = read(bridge, limit=2, type="CallStarted")["continuation"]
    assert len(read(bridge, limit=3, type="CallStarted", continuation=mark)["data"]) == 3
    with pytest.raises(Refused, match="continuation"):
        read(bridge, limit=2, type="CallConnected", continuation=mark)


def test_an_event_whose_body_is_gone_is_listed_without_it_and_the_others_whole(bridge: Bridge, ids: list[str]) -> None:
    late = happening(bridge, 40, "CallStarted", callID=1, caller="27771153", note="x" * 40_000)
    bridge.storage.container("payloads").delete_blob(late["payload"])
    put(bridge, [late])
    (first, second, *_) = read(bridge)["data"]
    assert (first["id"], first["data"], first["bodyMissing"]) == (late["id"], {}, True)
    assert (second["id"], second["data"]["remark"], "bodyMissing" in second) == (ids[0], 29, False)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"date_from": "0001-01-02", "date_to": "9999-12-31"}, 30),
        ({"date_from": "9999-12-31"}, 0),
        # The days of Riga.
        ({"date_from": "2026-05-31", "date_to": "2026-05-31"}, 30),
        ({"date_from": "2026-06-01"}, 0),
    ],
)
def test_any_date_will_do(query: dict[str, str], count: int, bridge: Bridge, ids: list[str]) -> None:
    assert len(read(bridge, **query)["data"]) == count


@pytest.mark.parametrize(("version", "shown"), [("v2", "v2"), (2, "2"), (["v1"], None), ({"a": 1}, None)])
def test_an_odd_version_is_shown_as_text_or_not_at_all(bridge: Bridge, version: Any, shown: str | None) -> None:
    row = event_named("CallStarted")
    envelope, data = check_envelope(row, {"version": version, "data": {"callID": "0100"}})
    event = ReceivedEvent(type=row, id="a" * 52, data=data, envelope=envelope, origin="webhook", received=START)
    people.add(bridge.storage, store.pointers(event, "LV"))
    store.publish(bridge, replace(event, row=row_of(bridge.storage, event)))
    (item,) = read(bridge, call_id=100)["data"]
    assert (item["version"], item["callID"], item["data"]["callID"]) == (shown, 100, 100)
