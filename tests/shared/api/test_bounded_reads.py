"""The cost of a read depends on its answer: it takes as many storage requests in a long history as in a short one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.counting import counted
from dev.stored import put
from shared import people
from shared.api.calls import read_events
from shared.api.lists import list_items
from shared.api.operations import GET_EVENTS
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.calls.store import calls
from shared.events import store
from shared.events.event import ReceivedEvent, row_of
from shared.pbx.operations import operation
from shared.pbx.resources import resource
from shared.settings import Settings
from shared.storage.account import Storage
from shared.times import iso
from tests.events import received

START = datetime(2026, 5, 31, 12, tzinfo=UTC)
OURS, RARE, EMPLOYEE = "+37167000123", "+37129998877", 4711
# The places of the rare caller in the history: old, and in two places.
PLACES = (3, 40)
MOST, MOST_OF_NEWEST = 8, 10


def call_id(number: int) -> int:
    return int((START + timedelta(minutes=number)).timestamp()) * 1_000_000


def item(number: int) -> dict[str, Any]:
    rare = number in PLACES
    moment = iso(START + timedelta(minutes=number))
    return {
        "callID": call_id(number),
        "recordingID": 1000 + number,
        "voicemailID": 5000 + number,
        "caller": RARE if rare else f"2777{number:04d}",
        "sender": RARE if rare else f"2777{number:04d}",
        "destination": OURS,
        "contactID": EMPLOYEE if rare else 966,
        "callStarted": moment,
    }


def happened(number: int, name: str, *, only: tuple[str, ...] = ()) -> ReceivedEvent:
    data = {key: value for key, value in item(number).items() if not only or key in only}
    return received(name, at=START + timedelta(minutes=number), **data)


def fill(bridge: Bridge, count: int) -> None:
    """Write a history of `count` calls, each with a recording, a voicemail and an event, a hundred rows at once."""
    storage, made = bridge.storage, []
    for name in ("call_history", "call_records", "voicemails"):
        # The emulator is slow: only the calls are many.
        put(storage, name, *map(item, range(count if name == "call_history" else 250)))
    for number in range(count):
        event = happened(number, "CallStarted")
        row = row_of(storage, event)
        if number in PLACES:
            people.add(storage, store.pointers(event, "LV"))
        made.append(("upsert", {**row, "PartitionKey": store.FEED, "RowKey": store.place(row)}))
    for start in range(0, len(made), 100):
        storage.table("feed").submit_transaction(made[start : start + 100])
    for number in PLACES:
        calls(storage, "LV").merge(call_id(number), happened(number, "CallStarted"))
        heard = ("voicemailID", "sender", "callStarted")
        calls(storage, "LV").merge(call_id(number), happened(number, "VoicemailCreated", only=heard))


LISTS = [
    ("call_history", {"source": RARE}, "callID"),
    ("call_history", {"source": "29998877", "destination": OURS}, "callID"),
    ("call_history", {"contact_id": EMPLOYEE}, "callID"),
    ("call_records", {"source": RARE}, "recordingID"),
    ("call_records", {"contact_id": EMPLOYEE}, "recordingID"),
    ("voicemails", {"source": RARE}, "voicemailID"),
    ("voicemails", {"contact_id": EMPLOYEE}, "voicemailID"),
    ("call_history", {"source": RARE, "initial_call_id": call_id(0)}, "callID"),
    ("call_history", {"source": RARE, "date_to": iso(START + timedelta(hours=8))}, "callID"),
]


def fresh(settings: Settings) -> Bridge:
    return Bridge(settings=settings, storage=Storage(settings.storage), pbx=None)  # type: ignore[arg-type]


def ask(bridge: Bridge, name: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    row = operation(resource(name).list_operation)
    given = Request(query={key: str(value) for key, value in query.items()})
    found: list[dict[str, Any]] = list_items(bridge, row, given).body["data"]
    return found


@pytest.fixture(params=[300, 1200])
def history(request: pytest.FixtureRequest, bridge: Bridge) -> Bridge:
    bridge.storage.ready()
    fill(bridge, request.param)
    return bridge


@pytest.mark.slow
def test_a_rare_number_or_employee_costs_the_same_in_any_history(history: Bridge) -> None:
    costs = {}
    for name, query, field in LISTS:
        bridge = fresh(history.settings)
        requests = counted(bridge.storage)
        found = [one[field] for one in ask(bridge, name, query)]
        assert found == [item(number)[field] for number in reversed(PLACES)], (name, query)
        costs[name, json.dumps(query)] = requests.count
    for query in ({"number": RARE}, {"call_id": call_id(3)}):
        bridge = fresh(history.settings)
        requests = counted(bridge.storage)
        found = read_events(bridge, GET_EVENTS, Request(query={key: str(value) for key, value in query.items()}))[
            "data"
        ]
        assert [one["callID"] for one in found] == [call_id(n) for n in reversed(PLACES)][-len(found) :]
        costs["feed", json.dumps(query)] = requests.count
    bridge = fresh(history.settings)
    requests = counted(bridge.storage)
    found = calls(bridge.storage, "LV").find(START + timedelta(minutes=3), RARE)
    assert found
    assert found["callID"].value == call_id(3)
    costs["find", ""] = requests.count
    assert max(costs.values()) <= MOST, costs
    assert costs == EXPECTED or not EXPECTED.update(costs)


EXPECTED: dict[tuple[str, str], int] = {}


@pytest.mark.slow
def test_a_number_of_many_calls_is_listed_from_the_newest(history: Bridge) -> None:
    bridge = fresh(history.settings)
    requests = counted(bridge.storage)
    assert len(ask(bridge, "call_history", {"contact_id": 966})) == 50
    assert requests.count <= MOST_OF_NEWEST
    pairs = ask(bridge, "call_history", {"destination": OURS, "source": RARE})
    assert [one["callID"] for one in pairs] == [call_id(number) for number in reversed(PLACES)]
