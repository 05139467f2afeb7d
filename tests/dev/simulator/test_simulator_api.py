"""Lists, single items, the key, dial, audio and webhooks; its faults are tested where the app meets them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from dev.simulator.resources import RESOURCES

TOP = 2**63 - 1


@pytest.mark.parametrize("key", ["", "test-key-and-more"])
def test_a_wrong_key_is_403_in_the_envelope(pbx: Any, key: str) -> None:
    answer = requests.get(pbx.base_url + "trigger/contacts", headers={"Authorization": f"Bearer {key}"}, timeout=5)
    assert answer.status_code == 403
    assert answer.json()["statusCode"] == 403
    assert set(answer.json()) == {"version", "status", "statusCode", "message", "data"}


@pytest.mark.parametrize("row", RESOURCES.values(), ids=RESOURCES)
def test_a_list_gives_greater_ids_only_newest_first_and_in_pages(pbx: Any, client: Any, row: Any) -> None:
    ids = list(pbx.bulk(row.name, 25))
    initial = {f"initial_{row.id_parameter}": ids[9]}
    assert client.ids(row.name, row.id_field, **initial) == ids[:9:-1]
    pages = (client.ids(row.name, row.id_field, limit=4, offset=start, **initial) for start in range(0, 20, 4))
    assert [item for page in pages for item in page] == ids[:9:-1]


@pytest.mark.parametrize("row", RESOURCES.values(), ids=RESOURCES)
def test_an_item_is_read_by_its_id_however_large(pbx: Any, client: Any, row: Any) -> None:
    pbx.add(row.name, TOP)
    assert client.data(f"{row.name}/{TOP}")[row.id_field] == TOP
    assert client.ids(row.name, row.id_field, **{row.id_parameter: TOP}) == [TOP]
    assert client.ids(row.name, row.id_field, **{f"initial_{row.id_parameter}": TOP - 1}) == [TOP]
    assert client.get(f"{row.name}/{TOP - 1}").status_code == 404
    assert client.get(f"{row.name}/abc").status_code == 422


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
    assert client.ids("call_history", "callID", direction="out") == [pbx.rang[0].id]


def test_an_event_is_posted_in_the_envelope_unless_it_is_dropped(pbx: Any, inbox: Any) -> None:
    pbx.hooks.subscribe("CallStarted", "http://127.0.0.1:9/nobody")
    pbx.hooks.faults.add("drop", "CallConnected", times=1)
    data = {"destination": "67021234", "callerid": "27771153"}
    pbx.hooks.emit("CallConnected", {"callID": 1})
    pbx.hooks.emit("LostCallerRemoved", data)
    assert pbx.wait_delivered()
    assert inbox.bodies == [{"type": "Event", "eventType": "LostCallerRemoved", "version": "v1", "data": data}]


@pytest.mark.parametrize("size", [144, 290, 36_001, 1_000_003])
def test_audio_is_mp3_of_exactly_the_size_asked_for(pbx: Any, size: int) -> None:
    pbx.add("call_records", 7)
    audio = pbx.file("call_records", 7)
    audio.size = size
    answer = requests.get(pbx.view("call_records", pbx.item("call_records", 7))["recordingURL"], timeout=10)
    assert len(answer.content) == size == int(answer.headers["Content-Length"])
    assert answer.headers["Content-Type"] == "audio/mpeg"
    assert answer.content[:2] == b"\xff\xf3" or answer.content[:3] == b"ID3"
    assert hashlib.sha256(answer.content).hexdigest() == audio.sha256()
