"""Lists, single items, the key, dial and the faults laid over them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from dev.simulator.resources import OPERATIONS, RESOURCES

RESOURCE_IDS = [row.path for row in RESOURCES]
TOP = 2**63 - 1


@pytest.mark.parametrize("key", ["", "test-key-and-more"])
def test_a_wrong_key_is_403_in_the_envelope(pbx: Any, key: str) -> None:
    answer = requests.get(pbx.base_url + "trigger/contacts", headers={"Authorization": f"Bearer {key}"}, timeout=5)
    assert answer.status_code == 403
    assert answer.json()["statusCode"] == 403
    assert set(answer.json()) == {"version", "status", "statusCode", "message", "data"}


@pytest.mark.parametrize("row", RESOURCES, ids=RESOURCE_IDS)
def test_a_list_gives_greater_ids_only_newest_first_and_in_pages(pbx: Any, client: Any, row: Any) -> None:
    ids = list(pbx.bulk(row.path, 25))
    initial = {f"initial_{row.id_parameter}": ids[9]}
    assert client.ids(row.path, row.id_field, **initial) == ids[:9:-1]
    pages = (client.ids(row.path, row.id_field, limit=4, offset=start, **initial) for start in range(0, 20, 4))
    assert [item for page in pages for item in page] == ids[:9:-1]


@pytest.mark.parametrize("row", RESOURCES, ids=RESOURCE_IDS)
def test_an_item_is_read_by_its_id_however_large(pbx: Any, client: Any, row: Any) -> None:
    pbx.add(row.path, TOP)
    assert client.data(f"{row.path}/{TOP}")[row.id_field] == TOP
    assert client.ids(row.path, row.id_field, **{row.id_parameter: TOP}) == [TOP]
    assert client.ids(row.path, row.id_field, **{f"initial_{row.id_parameter}": TOP - 1}) == [TOP]
    assert client.get(f"{row.path}/{TOP - 1}").status_code == 404
    assert client.get(f"{row.path}/abc").status_code == 422


@pytest.mark.parametrize("order", ["oldest", "random", "shuffled-page"])
def test_pages_in_any_order_bring_every_item_once(pbx: Any, client: Any, order: str) -> None:
    ids = list(pbx.bulk("contacts", 40))
    pbx.options.order = order
    got = [item for start in range(0, 40, 10) for item in client.ids("contacts", "contactID", limit=10, offset=start)]
    assert sorted(got) == ids
    assert got != ids[::-1]


def test_each_filter_of_calls_narrows_the_list(pbx: Any, client: Any) -> None:
    start = datetime(2026, 3, 2, 8, tzinfo=UTC)
    for number in range(4):
        pbx.add(
            "call_history",
            number + 1,
            caller=f"+3712000000{number}",
            destination=f"6702123{number % 2}",
            direction="in" if number < 3 else "out",
            contactID=900 + number,
            callStarted=start + timedelta(hours=number),
        )
    wanted = {
        "source": ("20000001", [2]),
        "destination": ("67021231", [4, 2]),
        "direction": ("out", [4]),
        "contact_id": ("902", [3]),
        "date_from": ("2026-03-02T10:00:00Z", [4, 3]),
        "date_to": ("2026-03-02T09:00:00+0000", [2, 1]),
    }
    for name, (value, ids) in wanted.items():
        assert client.ids("call_history", "callID", **{name: value}) == ids, name


def test_groups_are_filtered_by_a_member_and_voicemails_by_contact_and_box(pbx: Any, client: Any) -> None:
    anna, janis = pbx.add_contact("Anna"), pbx.add_contact("Jānis")
    sales, _ = pbx.add_group("Sales", [anna]), pbx.add_group("Care", [janis])
    assert client.ids("groups", "groupID", contact_id=anna) == [sales]
    assert client.data(f"contacts/{anna}")["group_membership"][0]["groupID"] == sales
    message = pbx.call("27771153", at=-60, contact_id=janis, talks=0, voicemail=True)
    assert client.ids("voicemails", "voicemailID", contact_id=janis) == [message.voicemail_id]
    assert client.ids("voicemails", "voicemailID", contact_id=anna) == []


def test_a_dial_rings_and_becomes_a_call(pbx: Any, client: Any) -> None:
    pbx.clock.set(datetime(2026, 3, 2, 8, tzinfo=UTC))
    anna = pbx.add_contact("Anna", number="26550101")
    assert client.post("dial", {"destination": "27771153", "contactID": anna}).status_code == 200
    assert [(row.destination, row.contact_id) for row in pbx.rang] == [("27771153", anna)]
    pbx.clock.advance(60)
    assert client.ids("call_history", "callID", direction="out") == [pbx.rang[0].call_id]


def test_every_operation_answers(client: Any) -> None:
    for row in OPERATIONS:
        path = row.path.lstrip("/").replace("{", "").replace("}", "")
        answer = client.session.request(row.method, client.pbx.base_url + path, json={}, timeout=5)
        assert answer.status_code in (200, 422), row.id


@pytest.mark.parametrize(
    ("changes", "status", "shown"),
    [
        ({"times": "z"}, 200, {"callStarted": "2018-04-25T13:54:19Z", "callConnected": None}),
        ({"times": "fraction-z"}, 200, {"callStarted": "2018-04-25T13:54:19.097344Z", "callConnected": None}),
        ({"times": "local"}, 200, {"callStarted": "2018-04-25T16:54:19+0300", "callConnected": None}),
        ({"absent": "empty"}, 200, {"callStarted": "2018-04-25T13:54:19+0000", "callConnected": ""}),
        ({"absent": "omit"}, 200, {"callStarted": "2018-04-25T13:54:19+0000"}),
        ({"page_cap": 0}, 200, None),
        ({"page_cap": 0, "empty": "404"}, 404, None),
        ({"refused": {"GetCallHistory"}}, 403, None),
    ],
    ids=str,
)
def test_an_option_changes_the_answer_of_a_list(
    pbx: Any, client: Any, changes: dict[str, Any], status: int, shown: dict[str, Any] | None
) -> None:
    vars(pbx.options).update(changes)
    pbx.add("call_history", 1, callStarted=datetime(2018, 4, 25, 13, 54, 19, 97344, UTC))
    answer = client.get("trigger/call_history")
    assert answer.status_code == status
    names = {"callStarted", "callConnected"}
    items = [{name: item[name] for name in names & item.keys()} for item in answer.json()["data"] or ()]
    assert items == ([shown] if shown else [])
