"""List actions find stored items by number, by name and by their list's filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dev.stored import put
from shared.api.lists import find_items, resource_of
from shared.api.operations import LIST_ACTIONS, LISTS
from shared.api.parameters import Request
from shared.errors import Invalid
from shared.pbx.resources import RESOURCES, Resource, resource

if TYPE_CHECKING:
    from shared.bridge import Bridge

PEOPLE = (
    {"contactID": 966, "firstname": "Anna", "lastname": "Bērziņa", "number": "26550101"},
    {"contactID": 967, "firstname": "Jānis", "lastname": "Kalniņš", "number": "+37126550102"},
    {"contactID": 968, "firstname": "", "lastname": None, "number": ""},
)
CALLS = (
    {"callID": 1, "caller": "27771153", "destination": "+37167000123", "direction": "in"},
    {"callID": 2, "caller": "67000123", "destination": "29998877", "direction": "out"},
    {"callID": 3, "caller": "anonymous", "destination": "29998877", "direction": "in"},
)


def store(bridge: Bridge, name: str, *items: dict[str, Any]) -> Resource:
    row = resource(name)
    put(bridge.storage, name, *items)
    return row


def find(bridge: Bridge, row: Resource, **query: Any) -> list[dict[str, Any]]:
    action = next(action for action in LIST_ACTIONS if resource_of(action) is row)
    answer = find_items(bridge, action, Request(query={name: str(value) for name, value in query.items()}))
    assert (answer["statusCode"], answer.keys()) == (200, {"version", "status", "statusCode", "message", "data"})
    data: list[dict[str, Any]] = answer["data"]
    return data


def test_each_resource_has_its_action_at_a_path_of_its_own() -> None:
    assert [resource_of(row) for row in LIST_ACTIONS] == list(RESOURCES)
    assert len({row.path for row in (*LIST_ACTIONS, *LISTS)}) == len(LIST_ACTIONS) + len(LISTS)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [968, 967, 966]),
        ({"name": "anna"}, [966]),
        ({"name": "BERZINA"}, [966]),
        ({"name": "jānis  kal"}, [967]),
        ({"name": "ins"}, [967]),
        ({"name": "nobody"}, []),
        ({"number": "+371 2655-0101"}, [966]),
        ({"number": "26550102"}, [967]),
        ({"number": "\u202a26550102\u202c"}, [967]),
        ({"number": "tel:+37126550102"}, [967]),
        ({"number": "6550102"}, []),
        ({"name": "anna", "number": "26550102"}, []),
        ({"limit": 1, "offset": 1}, [967]),
    ],
    ids=str,
)
def test_a_contact_is_found_by_name_and_number(query: dict[str, Any], expected: list[int], bridge: Bridge) -> None:
    row = store(bridge, "contacts", *PEOPLE)
    assert [item["contactID"] for item in find(bridge, row, **query)] == expected


def test_what_makers_pick_from_has_a_title(bridge: Bridge) -> None:
    row = store(bridge, "contacts", *PEOPLE)
    assert [item["title"] for item in find(bridge, row)] == ["968", "Jānis Kalniņš", "Anna Bērziņa"]
    boxes = store(bridge, "voicemail_boxes", {"voicemailBoxID": 5, "boxName": "Birojs"})
    assert [item["title"] for item in find(bridge, boxes, name="bir")] == ["Birojs"]
    calls = store(bridge, "call_history", *CALLS)
    assert all("title" not in item for item in find(bridge, calls))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"number": "29998877"}, [3, 2]),
        ({"number": "+371 67000123"}, [2, 1]),
        ({"number": "67000123", "direction": "in"}, [1]),
        ({"source": "27771153"}, [1]),
    ],
    ids=str,
)
def test_a_call_is_found_by_either_number(query: dict[str, Any], expected: list[int], bridge: Bridge) -> None:
    row = store(bridge, "call_history", *CALLS)
    assert [item["callID"] for item in find(bridge, row, **query)] == expected


@pytest.mark.parametrize("number", ["\u202a27771153", "tel:27771153", "27\u00a0771 153"])
def test_a_stored_number_is_read_through_invisible_marks(number: str, bridge: Bridge) -> None:
    row = store(bridge, "call_history", {"callID": 1, "caller": number})
    assert len(find(bridge, row, number="+37127771153")) == 1


@pytest.mark.parametrize("query", [{"name": ""}, {"name": "  "}, {"number": "anna"}, {"limit": 0}], ids=str)
def test_a_filter_that_says_nothing_is_refused(query: dict[str, Any], bridge: Bridge) -> None:
    with pytest.raises(Invalid):
        find(bridge, resource("contacts"), **query)
