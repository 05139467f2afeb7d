"""Lists return stored items, newest first, filtered and paged; list actions also find them by number and name."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.stored import put
from shared import people
from shared.api.envelopes import Page
from shared.api.lists import find_items, list_items, resource_of
from shared.api.operations import LIST_ACTIONS, LISTS
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.errors import Invalid
from shared.items.store import present
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES, Resource, resource
from shared.values import LARGEST_ID

START = datetime(2018, 4, 25, 13, 54, 19, tzinfo=UTC)
CALLS = resource("call_history")


def call_id(minutes: int) -> int:
    return int((START + timedelta(minutes=minutes)).timestamp()) * 1_000_000 + 97344


def call(minutes: int, **fields: Any) -> dict[str, Any]:
    moment = START + timedelta(minutes=minutes)
    return {
        "callID": call_id(minutes),
        "caller": "27771153",
        "destination": "+37167000123",
        "direction": "in",
        "callStarted": f"{moment:%Y-%m-%dT%H:%M:%S}+0000",
        "callConnected": None,
        "contactID": 966,
    } | fields


def given(query: dict[str, Any]) -> Request:
    return Request(query={name: str(value) for name, value in query.items()})


def ask(bridge: Bridge, row: Resource, **query: Any) -> Page:
    return list_items(bridge, operation(row.list_operation), given(query))


def ids(bridge: Bridge, row: Resource = CALLS, /, **query: Any) -> list[int]:
    return [item[row.id_field] for item in ask(bridge, row, **query).body["data"]]


def find(bridge: Bridge, row: Resource, /, **query: Any) -> list[dict[str, Any]]:
    answer = find_items(bridge, next(one for one in LIST_ACTIONS if resource_of(one) is row), given(query))
    assert isinstance(answer, dict)
    assert (answer["statusCode"], answer.keys()) == (200, {"version", "status", "statusCode", "message", "data"})
    return list(answer["data"])


def test_each_resource_has_its_list_and_its_action() -> None:
    assert [row.id for row in LISTS] == [row.list_operation for row in RESOURCES]
    assert [resource_of(row) for row in LIST_ACTIONS] == list(RESOURCES)
    assert len({row.path for row in (*LIST_ACTIONS, *LISTS)}) == len(LIST_ACTIONS) + len(LISTS)


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_a_list_is_newest_first_with_exact_ids(row: Resource, bridge: Bridge) -> None:
    found = {"version": "v2", "status": "success", "statusCode": 200, "message": "OK", "data": []}
    assert ask(bridge, row).body == found | {"state": present(bridge.storage, row.name)}
    numbers = [5, 1524664459097344, 150818921852, LARGEST_ID, LARGEST_ID - 1]
    put(bridge.storage, row.name, *({row.id_field: number, "extra": "kept"} for number in numbers))
    newest = sorted(numbers, reverse=True)
    assert all(item["extra"] == "kept" for item in ask(bridge, row).body["data"])
    for query, expected in (
        ({}, newest),
        ({row.cursor_parameter: 0}, newest),
        ({row.cursor_parameter: LARGEST_ID - 1}, [LARGEST_ID]),
        ({row.cursor_parameter: LARGEST_ID}, []),
        ({row.id_parameter: LARGEST_ID}, [LARGEST_ID]),
        ({row.id_parameter: 6}, []),
    ):
        assert ids(bridge, row, **query) == expected


def test_limit_and_offset_page_through_everything_once(bridge: Bridge) -> None:
    numbers = random.Random(7).sample(range(1, 10**12), 450)
    put(bridge.storage, CALLS.name, *({"callID": number} for number in numbers))
    assert len(ids(bridge)) == 50
    pages = [ids(bridge, limit=70, offset=offset) for offset in range(0, 490, 70)]
    assert [number for page in pages for number in page] == sorted(numbers, reverse=True) == ids(bridge, limit=1000)
    assert ids(bridge, offset=450) == ids(bridge, offset=LARGEST_ID) == []


SOME = (
    call(0),
    call(1, caller="+37129998877", direction="out", contactID=967),
    call(2, caller="", destination="27771153"),
    call(3, caller="anonymous", contactID=None),
    call(4, caller="29998877", destination="67000123", callStarted=""),
    call(5, callStarted=None, contactID=967),
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"source": "+371 2777-1153"}, [5, 0]),
        ({"source": "29998877"}, [4, 1]),
        ({"source": "7771153"}, []),
        ({"destination": "67000123"}, [5, 4, 3, 1, 0]),
        ({"destination": "+37127771153"}, [2]),
        ({"direction": "out"}, [1]),
        ({"contact_id": 967, "direction": "in"}, [5]),
        ({"date_from": "2018-04-25T13:56:19+0000"}, [3, 2]),
        ({"date_from": "2018-04-25T16:56:19+03:00", "date_to": "2018-04-25T13:56:19Z"}, [2]),
        ({"date_to": "2018-04-25 13:55:19"}, [1, 0]),
        ({"date_from": "2018-04-25", "date_to": "2018-04-25"}, [3, 2, 1, 0]),
        ({"date_from": "0001-01-02", "date_to": "9999-12-31"}, [3, 2, 1, 0]),
        ({"direction": "in", "limit": 2, "offset": 1}, [4, 3]),
        ({"initial_call_id": call_id(3)}, [5, 4]),
        ({"call_id": call_id(1), "direction": "in"}, []),
        ({"call_id": call_id(1), "direction": "out"}, [1]),
        ({"code": "k", "contact_id": 967}, [5, 1]),
    ],
    ids=str,
)
def test_a_filter_lets_through_what_it_names(query: dict[str, Any], expected: list[int], bridge: Bridge) -> None:
    put(bridge.storage, CALLS.name, *SOME)
    assert ids(bridge, **query) == [call_id(minutes) for minutes in expected]


def test_groups_are_found_by_their_members(bridge: Bridge) -> None:
    groups = resource("groups")
    members = ([966, 967], [], None, [967])
    put(
        bridge.storage,
        "groups",
        *(
            {"groupID": number, "members": [{"contactID": id} for id in some] if some is not None else None}
            for number, some in enumerate(members, 1)
        ),
    )
    assert ids(bridge, groups, contact_id=967) == [4, 1]
    assert ids(bridge, groups, contact_id=968) == []


def test_voicemails_are_found_by_box_sender_time_and_the_employee_whose_call_it_was(bridge: Bridge) -> None:
    voicemails = resource("voicemails")
    # The same value as in the story of its call.
    people.add(bridge.storage, [(people.employee(966), people.Pointer("voicemail", "1", START))])
    first = {"voicemailID": 1, "sender": "27771153", "callStarted": "2018-04-25T13:54:19+0000", "voicemailBoxID": 5120}
    second = {"voicemailID": 2, "sender": "", "callStarted": "2018-04-25T13:55:19+0000", "voicemailBoxID": 5121}
    put(bridge.storage, "voicemails", first, second)
    for query, expected in (
        ({"contact_id": 966}, [1]),
        ({"contact_id": 966, "source": "27771153"}, [1]),
        ({"contact_id": 966, "source": "27771154"}, []),
        ({"contact_id": 967}, []),
        # In the order of arrival, each is looked up.
        ({"contact_id": 966, "state": "0"}, [1]),
        ({"contact_id": 967, "state": "0"}, []),
        ({"box_id": 5121}, [2]),
        ({"source": "+37127771153"}, [1]),
        ({"date_from": "2018-04-25T13:54:20Z"}, [2]),
    ):
        assert ids(bridge, voicemails, **query) == expected, query


@pytest.mark.parametrize("query", [{"limit": 0}, {"triggerState": "x"}, {"triggerState": "", "state": "x"}], ids=str)
def test_a_value_that_does_not_fit_is_refused(query: dict[str, Any], bridge: Bridge) -> None:
    with pytest.raises(Invalid):
        ask(bridge, CALLS, **query)


def test_a_call_with_a_plain_counter_is_found_by_its_date(bridge: Bridge) -> None:
    items = call(0), call(1, callID=150818921852), call(2, callID=LARGEST_ID), call(90 * 24 * 60)
    put(bridge.storage, CALLS.name, *items)
    assert ids(bridge, date_from="2018-04-25", date_to="2018-04-26") == [LARGEST_ID, call_id(0), 150818921852]
    assert ids(bridge, date_from="2018-04-25", initial_call_id=LARGEST_ID - 1) == [LARGEST_ID]


@pytest.mark.slow
@pytest.mark.parametrize("stored_in", [1, 1300], ids=["each on its own", "all at once"])
def test_polling_by_the_greatest_id_returns_everything(stored_in: int, bridge: Bridge) -> None:
    put(bridge.storage, CALLS.name, call(0))
    news = [call(minute) for minute in range(1, 1301)] if stored_in > 1 else [call(minute) for minute in range(1, 31)]
    for start in range(0, len(news), stored_in):
        put(bridge.storage, CALLS.name, *news[start : start + stored_in])
    limits = {} if stored_in > 1 else {"limit": 7}
    cursor, seen, asks = call_id(0), list[int](), 0
    while found := ids(bridge, initial_call_id=cursor, **limits):
        assert found == sorted(found, reverse=True)
        cursor, asks = found[0], asks + 1
        seen += reversed(found)
    assert seen == [item["callID"] for item in news]
    assert asks == (2 if stored_in > 1 else 5)


def test_the_smallest_ids_above_are_those_that_fit_in_pages_too(bridge: Bridge) -> None:
    put(bridge.storage, CALLS.name, *(call(n, direction="out" if n % 10 else "in") for n in range(500)))
    query = {"initial_call_id": call_id(5), "direction": "in", "limit": 3}
    dates = {"date_from": "2018-04-25T15:00:00Z", "date_to": "2018-04-25T15:30:00Z"}
    for more, expected in (
        ({}, (30, 20, 10)),
        ({"offset": 3}, (60, 50, 40)),
        ({"source": "27771153"}, (30, 20, 10)),
        (dates, (90, 80, 70)),
        ({"call_id": call_id(490)}, (490,)),
    ):
        assert ids(bridge, **query | more) == [call_id(minute) for minute in expected]


PEOPLE = (
    {"contactID": 966, "firstname": "Anna", "lastname": "Bērziņa", "number": "26550101"},
    {"contactID": 967, "firstname": "Jānis", "lastname": "Kalniņš", "number": "+37126550102"},
    {"contactID": 968, "firstname": "", "lastname": None, "number": ""},
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [968, 967, 966]),
        ({"name": "BERZINA"}, [966]),
        ({"name": "jānis  kal"}, [967]),
        ({"name": "nobody"}, []),
        ({"number": "+371 2655-0101"}, [966]),
        ({"number": "26550102"}, [967]),
        ({"number": "6550102"}, []),
        ({"name": "anna", "number": "26550102"}, []),
        ({"limit": 1, "offset": 1}, [967]),
    ],
    ids=str,
)
def test_a_contact_is_found_by_name_and_number(query: dict[str, Any], expected: list[int], bridge: Bridge) -> None:
    put(bridge.storage, "contacts", *PEOPLE)
    assert [item["contactID"] for item in find(bridge, resource("contacts"), **query)] == expected


def test_lists_of_choices_have_titles(bridge: Bridge) -> None:
    put(bridge.storage, "contacts", *PEOPLE)
    put(bridge.storage, "voicemail_boxes", {"voicemailBoxID": 5, "boxName": "Birojs"})
    put(bridge.storage, CALLS.name, call(0))
    titles = [item["title"] for item in find(bridge, resource("contacts"))]
    assert titles == ["968", "Jānis Kalniņš", "Anna Bērziņa"]
    assert [item["title"] for item in find(bridge, resource("voicemail_boxes"), name="bir")] == ["Birojs"]
    assert all("title" not in item for item in find(bridge, CALLS))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"number": "29998877"}, [3, 2]),
        ({"number": "+371 67000123"}, [2, 1]),
        ({"number": "67000123", "direction": "in"}, [1]),
    ],
    ids=str,
)
def test_a_call_is_found_by_either_number(query: dict[str, Any], expected: list[int], bridge: Bridge) -> None:
    put(
        bridge.storage,
        CALLS.name,
        {"callID": 1, "caller": "27\u00a0771 153", "destination": "+37167000123", "direction": "in"},
        {"callID": 2, "caller": "67000123", "destination": "tel:29998877", "direction": "out"},
        {"callID": 3, "caller": "anonymous", "destination": "\u202a29998877", "direction": "in"},
    )
    assert [item["callID"] for item in find(bridge, CALLS, **query)] == expected


def test_an_empty_search_is_refused(bridge: Bridge) -> None:
    with pytest.raises(Invalid, match=r"name: .*number: "):
        find(bridge, resource("contacts"), name="  ", number="anna")
