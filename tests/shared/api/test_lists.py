"""Lists bring what is stored: newest first, filtered, paged; and in the order of arrival for who polls by Location."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from dev.stored import put
from shared import people
from shared.api.lists import _spans as spans
from shared.api.lists import list_items
from shared.api.operations import LISTS
from shared.api.parameters import Request
from shared.api.triggers import IDLE_SECONDS, TRIGGER_STATE
from shared.calls.store import calls
from shared.errors import Invalid
from shared.events.event import ReceivedEvent, read_data
from shared.events.table import event_named
from shared.identifiers import LARGEST_ID
from shared.items.reader import present
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES, Resource, resource
from shared.times import FIRST_CLOCK_ID, LAST_CLOCK_ID, now

if TYPE_CHECKING:
    from shared.api.envelopes import Page
    from shared.bridge import Bridge

START = datetime(2018, 4, 25, 13, 54, 19, tzinfo=UTC)
BASE = "https://func-pbx.azurewebsites.net"
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


def store(bridge: Bridge, row: Resource, *items: dict[str, Any]) -> None:
    put(bridge.storage, row.name, *items)


def ask(bridge: Bridge, row: Resource, **query: Any) -> Page:
    texts = {name: str(value) for name, value in query.items()}
    return list_items(bridge, operation(row.list_operation), Request(query=texts, base=BASE))


def ids(page: Page, row: Resource = CALLS) -> list[int]:
    return [item[row.id_field] for item in page.body["data"]]


def follow(bridge: Bridge, page: Page, row: Resource = CALLS) -> Page:
    """Ask where the last answer says."""
    location = urlsplit(page.headers["Location"])
    assert f"{location.scheme}://{location.netloc}" == BASE
    assert location.path == f"/api/v2/trigger/{row.name}"
    query = {name: values[0] for name, values in parse_qs(location.query).items()}
    return list_items(bridge, operation(row.list_operation), Request(query=query, base=BASE))


def test_each_resource_has_its_list() -> None:
    assert [row.id for row in LISTS] == [row.list_operation for row in RESOURCES]


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_nothing_stored_is_an_empty_list(row: Resource, bridge: Bridge) -> None:
    page = ask(bridge, row)
    assert page.status == 200
    found = {"version": "v2", "status": "success", "statusCode": 200, "message": "OK", "data": []}
    assert page.body == found | {"state": present(bridge.storage, row.name)}


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_a_list_is_newest_first_with_exact_ids(row: Resource, bridge: Bridge) -> None:
    numbers = [5, 1524664459097344, 150818921852, LARGEST_ID, LARGEST_ID - 1]
    store(bridge, row, *({row.id_field: number, "extra": "kept"} for number in numbers))
    page = ask(bridge, row)
    assert ids(page, row) == sorted(numbers, reverse=True)
    assert all(item["extra"] == "kept" for item in page.body["data"])
    assert ids(ask(bridge, row, **{row.cursor_parameter: LARGEST_ID - 1}), row) == [LARGEST_ID]
    assert ids(ask(bridge, row, **{row.cursor_parameter: LARGEST_ID}), row) == []
    assert ids(ask(bridge, row, **{row.cursor_parameter: 0}), row) == sorted(numbers, reverse=True)
    assert ids(ask(bridge, row, **{row.id_parameter: LARGEST_ID}), row) == [LARGEST_ID]
    assert ids(ask(bridge, row, **{row.id_parameter: 6}), row) == []


def test_limit_and_offset_page_through_everything_once(bridge: Bridge) -> None:
    numbers = random.Random(7).sample(range(1, 10**12), 450)
    store(bridge, CALLS, *({"callID": number} for number in numbers))
    assert len(ids(ask(bridge, CALLS))) == 50
    assert len(ids(ask(bridge, CALLS, limit=1000))) == 450
    pages = [ids(ask(bridge, CALLS, limit=70, offset=offset)) for offset in range(0, 490, 70)]
    assert [number for page in pages for number in page] == sorted(numbers, reverse=True)
    assert ids(ask(bridge, CALLS, offset=450)) == []
    assert ids(ask(bridge, CALLS, offset=LARGEST_ID)) == []


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
        ({"source": "27771153"}, [5, 0]),
        ({"source": "+371 2777-1153"}, [5, 0]),
        ({"source": " 37127771153"}, [5, 0]),
        ({"source": "29998877"}, [4, 1]),
        ({"source": "7771153"}, []),
        ({"destination": "67000123"}, [5, 4, 3, 1, 0]),
        ({"destination": "+37127771153"}, [2]),
        ({"direction": "out"}, [1]),
        ({"contact_id": 967}, [5, 1]),
        ({"contact_id": 967, "direction": "in"}, [5]),
        ({"date_from": "2018-04-25T13:56:19+0000"}, [3, 2]),
        ({"date_from": "2018-04-25T16:56:19+03:00", "date_to": "2018-04-25T13:56:19Z"}, [2]),
        ({"date_to": "2018-04-25 13:55:19"}, [1, 0]),
        ({"date_from": "2018-05-25T00:00:00Z"}, []),
        ({"direction": "in", "limit": 2, "offset": 1}, [4, 3]),
        ({"initial_call_id": call_id(3)}, [5, 4]),
        ({"call_id": call_id(1), "direction": "in"}, []),
        ({"call_id": call_id(1), "direction": "out"}, [1]),
        ({"code": "k", "contact_id": 967}, [5, 1]),
    ],
    ids=str,
)
def test_a_filter_lets_through_what_it_names(query: dict[str, Any], expected: list[int], bridge: Bridge) -> None:
    store(bridge, CALLS, *SOME)
    assert ids(ask(bridge, CALLS, **query)) == [call_id(minutes) for minutes in expected]


def test_groups_are_found_by_their_members(bridge: Bridge) -> None:
    groups = resource("groups")
    store(
        bridge,
        groups,
        {"groupID": 1, "members": [{"contactID": 966}, {"contactID": 967}]},
        {"groupID": 2, "members": []},
        {"groupID": 3, "members": None},
        {"groupID": 4, "members": [{"contactID": 967}]},
    )
    assert ids(ask(bridge, groups, contact_id=967), groups) == [4, 1]
    assert ids(ask(bridge, groups, contact_id=968), groups) == []


def test_voicemails_are_found_by_box_sender_time_and_the_employee_whose_call_it_was(bridge: Bridge) -> None:
    voicemails = resource("voicemails")
    first = {"voicemailID": 1, "sender": "27771153", "callStarted": "2018-04-25T13:54:19+0000", "voicemailBoxID": 5120}
    second = {"voicemailID": 2, "sender": "", "callStarted": "2018-04-25T13:55:19+0000", "voicemailBoxID": 5121}
    store(bridge, voicemails, first, second)
    event = event_named("CallStarted")
    envelope = {"type": "Event", "eventType": "CallStarted", "version": "v1", "data": call(0)}
    found = {"id": "started", "data": read_data(event.model, call(0)), "envelope": envelope}
    calls(bridge.storage, bridge.settings.default_region).merge(
        call_id(0), ReceivedEvent(type=event, origin="webhook", received=now(), **found)
    )
    people.add(bridge.storage, [(people.employee(966), people.Pointer("voicemail", "1", now()))])
    assert ids(ask(bridge, voicemails, contact_id=966), voicemails) == [1]
    assert ids(ask(bridge, voicemails, contact_id=967), voicemails) == []
    assert ids(ask(bridge, voicemails, box_id=5121), voicemails) == [2]
    assert ids(ask(bridge, voicemails, source="+37127771153"), voicemails) == [1]
    assert ids(ask(bridge, voicemails, date_from="2018-04-25T13:54:20Z"), voicemails) == [2]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"direction": "up"},
        {"date_from": "soon"},
        {TRIGGER_STATE: "x"},
        {TRIGGER_STATE: "", "state": "x"},
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_refused(query: dict[str, Any], bridge: Bridge) -> None:
    with pytest.raises(Invalid):
        ask(bridge, CALLS, **query)


def test_calls_out_of_the_range_of_dates_are_not_read_but_plain_counters_are() -> None:
    (above, below), (counters_above, counters_below) = spans(CALLS, {"date_from": START, "date_to": START})[1:]
    assert above < call_id(0) < below
    assert below - above < timedelta(days=3).total_seconds() * 1_000_000
    assert counters_above < 0 and counters_below == FIRST_CLOCK_ID
    assert spans(CALLS, {"date_from": START})[0] == (LAST_CLOCK_ID, LARGEST_ID + 1)
    assert spans(CALLS, {"date_from": START, "initial_call_id": LARGEST_ID - 1}) == [(LARGEST_ID - 1, LARGEST_ID + 1)]
    assert spans(resource("voicemails"), {"date_from": START}) == [(-1, LARGEST_ID + 1)]


def test_a_call_with_a_plain_counter_is_found_by_its_date(bridge: Bridge) -> None:
    store(bridge, CALLS, call(0), call(1, callID=150818921852), call(2, callID=LARGEST_ID), call(90 * 24 * 60))
    query = {"date_from": "2018-04-25T00:00:00Z", "date_to": "2018-04-26T00:00:00Z"}
    assert ids(ask(bridge, CALLS, **query)) == [LARGEST_ID, call_id(0), 150818921852]


def test_any_date_will_do(bridge: Bridge) -> None:
    store(bridge, CALLS, call(0))
    assert ids(ask(bridge, CALLS, date_from="0001-01-02", date_to="9999-12-31T23:59:59Z")) == [call_id(0)]


def test_a_state_brings_everything_after_it(bridge: Bridge) -> None:
    store(bridge, CALLS, *(call(minute) for minute in range(90)))
    assert len(ids(ask(bridge, CALLS, initial_call_id=str(call_id(9))))) == 80
    assert ids(ask(bridge, CALLS, initial_call_id=str(call_id(9)), limit="3")) == [call_id(n) for n in (12, 11, 10)]
    assert len(ids(ask(bridge, CALLS, initial_call_id="0"))) == 50


@pytest.mark.parametrize("state", ["now", ""])
def test_a_poll_begins_with_the_present(state: str, bridge: Bridge) -> None:
    store(bridge, CALLS, call(0))
    page = ask(bridge, CALLS, **{TRIGGER_STATE: state})
    assert (page.status, page.headers["Retry-After"]) == (202, str(IDLE_SECONDS))
    again = follow(bridge, page)
    assert (again.status, again.headers) == (202, page.headers)
    assert again.body["data"] == []


def test_a_poll_brings_one_item_at_a_time_until_drained_and_late_ones_too(bridge: Bridge) -> None:
    store(bridge, CALLS, call(10))
    page = ask(bridge, CALLS, **{TRIGGER_STATE: "now"})
    store(bridge, CALLS, call(12), call(11))
    store(bridge, CALLS, call(2))
    found = []
    while (page := follow(bridge, page)).status == 200:
        assert page.headers["Retry-After"] == "0"
        found += ids(page)
    assert sorted(found[:2]) == [call_id(11), call_id(12)]
    assert found[2:] == [call_id(2)]
    assert page.headers["Retry-After"] == str(IDLE_SECONDS)
    assert follow(bridge, page).headers == page.headers


def test_a_poll_from_zero_brings_all_there_is(bridge: Bridge) -> None:
    store(bridge, CALLS, *(call(minutes) for minutes in range(20)))
    page, found = ask(bridge, CALLS, **{TRIGGER_STATE: "0"}), []
    while page.status == 200:
        found += ids(page)
        page = follow(bridge, page)
    assert sorted(found) == [call_id(minutes) for minutes in range(20)]


def test_a_poll_keeps_its_filters_and_passes_over_the_rest(bridge: Bridge) -> None:
    page = ask(bridge, CALLS, **{TRIGGER_STATE: "now"}, direction="out", destination="+371 67000123", code="secret")
    assert "secret" not in page.headers["Location"]
    store(bridge, CALLS, *(call(minutes, direction="out" if minutes == 130 else "in") for minutes in range(260)))
    page = follow(bridge, page)
    assert (page.status, ids(page)) == (200, [call_id(130)])
    page = follow(bridge, page)
    assert (page.status, page.headers["Retry-After"]) == (202, str(IDLE_SECONDS))
    assert "direction=out" in page.headers["Location"]
    store(bridge, CALLS, call(300, direction="out"))
    assert ids(follow(bridge, page)) == [call_id(300)]


@pytest.mark.slow
@pytest.mark.parametrize("stored_in", [1, 1300], ids=["each on its own", "all at once"])
def test_who_asks_by_the_greatest_id_of_the_last_answer_gets_everything(stored_in: int, bridge: Bridge) -> None:
    store(bridge, CALLS, call(0))
    news = [call(minute) for minute in range(1, 1301)] if stored_in > 1 else [call(minute) for minute in range(1, 31)]
    for start in range(0, len(news), stored_in):
        store(bridge, CALLS, *news[start : start + stored_in])
    limits = {} if stored_in > 1 else {"limit": 7}
    cursor, seen, asks = call_id(0), list[int](), 0
    while found := ids(ask(bridge, CALLS, initial_call_id=cursor, **limits)):
        assert found == sorted(found, reverse=True)
        cursor, asks = found[0], asks + 1
        seen += reversed(found)
    assert seen == [item["callID"] for item in news]
    assert asks == (2 if stored_in > 1 else 5)


def test_the_smallest_ids_above_are_those_that_fit_in_pages_too(bridge: Bridge) -> None:
    store(bridge, CALLS, *(call(minute, direction="out" if minute % 10 else "in") for minute in range(500)))
    query = {"initial_call_id": call_id(5), "direction": "in", "limit": 3}
    assert ids(ask(bridge, CALLS, **query)) == [call_id(minute) for minute in (30, 20, 10)]
    assert ids(ask(bridge, CALLS, **query, offset=3)) == [call_id(minute) for minute in (60, 50, 40)]
    dates = {"date_from": "2018-04-25T15:00:00Z", "date_to": "2018-04-25T15:30:00Z"}
    assert ids(ask(bridge, CALLS, **query, **dates)) == [call_id(minute) for minute in (90, 80, 70)]
    assert ids(ask(bridge, CALLS, initial_call_id=call_id(5), call_id=call_id(490))) == [call_id(490)]


def batches(bridge: Bridge, state: str, **query: Any) -> tuple[list[list[int]], str]:
    """What a connector gets that asks by the state of the last answer until one is empty, and the last state."""
    found = []
    while True:
        page = ask(bridge, CALLS, state=state, **query)
        assert (page.status, page.headers) == (200, {})
        if not page.body["data"] and page.body["state"] == state:
            return found, state
        found.append(ids(page))
        state = page.body["state"]


@pytest.mark.parametrize("state", ["now", ""])
def test_a_batch_without_a_state_begins_with_the_present(state: str, bridge: Bridge) -> None:
    store(bridge, CALLS, call(0))
    page = ask(bridge, CALLS, state=state)
    assert (page.status, page.body["data"]) == (200, [])
    assert batches(bridge, page.body["state"]) == ([], page.body["state"])
    store(bridge, CALLS, call(1))
    assert batches(bridge, page.body["state"])[0] == [[call_id(1)]]


@pytest.mark.slow
def test_a_batch_holds_all_that_arrived_long_calls_too_oldest_first(bridge: Bridge) -> None:
    store(bridge, CALLS, call(300))
    _, state = batches(bridge, ask(bridge, CALLS, state="now").body["state"])
    store(bridge, CALLS, *(call(minute) for minute in range(301, 1601)))
    store(bridge, CALLS, call(1))
    found, state = batches(bridge, state)
    assert [len(one) for one in found] == [1000, 301]
    assert [number for one in found for number in one] == [
        *(call_id(minute) for minute in range(301, 1601)),
        call_id(1),
    ]
    assert batches(bridge, state) == ([], state)


@pytest.mark.slow
def test_a_batch_keeps_to_filters_and_limit_and_loses_nothing(bridge: Bridge) -> None:
    state = ask(bridge, CALLS, state="now").body["state"]
    store(bridge, CALLS, *(call(minute, direction="in" if minute % 300 else "out") for minute in range(1900)))
    found, _ = batches(bridge, state, direction="out", limit=3, offset=2)
    assert [one for one in found if one] == [
        [call_id(minute) for minute in (0, 300, 600)],
        [call_id(minute) for minute in (900, 1200, 1500)],
        [call_id(1800)],
    ]


def test_a_list_s_state_is_where_a_batch_goes_on(bridge: Bridge) -> None:
    store(bridge, CALLS, call(5))
    state = ask(bridge, CALLS).body["state"]
    store(bridge, CALLS, call(1))
    assert batches(bridge, state)[0] == [[call_id(1)]]


@pytest.mark.parametrize("state", ["soon", "-1", "1" * 19, "1.0"])
def test_a_state_that_is_none_of_ours_is_refused(state: str, bridge: Bridge) -> None:
    with pytest.raises(Invalid, match=r"state"):
        ask(bridge, CALLS, state=state)
