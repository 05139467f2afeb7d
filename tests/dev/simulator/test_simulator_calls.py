"""A call leaves the events, items and lost callers that it should, when it should."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.simulator.calls import delete_voicemail
from dev.simulator.day import demo
from dev.simulator.resources import EVENTS, RESOURCES, posted

START = datetime(2018, 4, 25, 13, 54, 19, 97344, UTC)


@pytest.fixture(autouse=True)
def _frozen(pbx: Any) -> None:
    pbx.clock.set(START)


def pass_time(pbx: Any, seconds: float) -> None:
    pbx.clock.advance(seconds)
    pbx.wait_delivered()


def test_an_answered_call_runs_from_start_to_recording(pbx: Any, client: Any, inbox: Any) -> None:
    anna = pbx.add_contact("Anna")
    call = pbx.call("27771153", contact_id=anna, rings=5, talks=60, recorded=True)
    assert call.id == 1524664459097344
    pass_time(pbx, 64)
    assert inbox.names == ["CallStarted", "CallConnected"]
    assert client.get(f"call_history/{call.id}").status_code == 404
    pass_time(pbx, 1)
    assert inbox.names[2:] == ["CallCompleted"]
    item = client.data(f"call_history/{call.id}")
    assert (item["connectionTime"], item["recordingID"]) == (60, call.recording_id)
    assert client.get(f"call_records/{call.recording_id}").status_code == 404
    pass_time(pbx, 2)
    assert inbox.names[3:] == ["CallRecorded"]
    assert client.data(f"call_records/{call.recording_id}")["caller"] == "27771153"
    assert "previous_contactID" not in inbox.bodies[2]["data"]
    assert set(inbox.bodies[3]["data"]) == set(posted("CallRecorded", {}))


def test_a_transferred_call_names_the_previous_contact(pbx: Any, inbox: Any) -> None:
    anna, janis, liga = (pbx.add_contact(name) for name in ("Anna", "Jānis", "Līga"))
    pbx.call("27771153", contact_id=anna, transferred_to=[janis, liga], talks=90)
    pass_time(pbx, 100)
    chain = [
        (body["eventType"], body["data"].get("previous_contactID"), body["data"]["contactID"]) for body in inbox.bodies
    ]
    assert chain[2:] == [
        ("CallTransfered", anna, janis),
        ("CallTransfered", janis, liga),
        ("CallCompleted", janis, liga),
    ]


def test_a_lost_caller_is_added_updated_and_removed(pbx: Any, client: Any, inbox: Any) -> None:
    for _ in range(2):
        pbx.call("27771153", talks=0)
        pass_time(pbx, 60)
    assert client.data("lost_calls")[0]["attempts"] == 2
    pbx.call("67021234", "27771153", direction="out")
    pass_time(pbx, 60)
    assert client.data("lost_calls") == []
    assert [name for name in inbox.names if name.startswith("Lost")] == [
        "LostCallerAdded",
        "LostCallerUpdated",
        "LostCallerRemoved",
    ]


def test_a_voicemail_is_left_listed_and_deleted(pbx: Any, client: Any, inbox: Any) -> None:
    call = pbx.call("27771153", talks=0, voicemail=True)
    pass_time(pbx, 60)
    assert client.ids("voicemails", "voicemailID") == [call.voicemail_id]
    delete_voicemail(pbx, call.voicemail_id)
    pbx.wait_delivered()
    assert client.ids("voicemails", "voicemailID") == []
    assert inbox.names[-2:] == ["VoicemailCreated", "VoicemailDeleted"]


def test_the_demo_day_brings_every_event(pbx: Any, client: Any, inbox: Any) -> None:
    demo(pbx)
    pbx.clock.play(0)
    pbx.wait_delivered()
    assert set(inbox.names) == set(EVENTS)
    assert all(pbx.rows[name] for name, row in RESOURCES.items() if row.editable)
    ids = client.ids("call_history", "callID")
    assert len(ids) == 9
    assert inbox.names.count("CallCompleted") == len(ids), "a group call completes twice, one event is dropped"
    waiting = [(row["callerid"], row["contact_name"]) for row in client.data("lost_calls")]
    assert waiting == [("+37127771153", "")], "a stranger waits at the end"
    assert pbx.clock.now() <= START + timedelta(seconds=1)
