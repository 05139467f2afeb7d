"""Table `calls`: bounded rows, calls of voicemails, and calls without an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.counting import counted
from shared.calls import stories
from shared.calls.store import Calls, newest, pointers, without_end
from shared.events.event import ReceivedEvent
from shared.storage.account import Storage
from shared.storage.rows import descending
from shared.times import call_start
from tests import events
from tests.stored import stored_audio

CALL = 1717149600000000
START = datetime(2024, 5, 31, 10, tzinfo=UTC)


def received(name: str, **data: Any) -> ReceivedEvent:
    return events.received(name, at=START, **{"callID": CALL} | data)


@pytest.fixture
def calls(storage: Storage) -> Calls:
    return Calls(storage, "LV")


def row(storage: Storage, call_id: int = CALL) -> dict[str, Any]:
    return dict(storage.table("calls").get_entity("call", descending(call_id)))


def test_beyond_its_bound_a_story_costs_no_more_writes(
    storage: Storage, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stories, "MOST_PARTS", 20)
    storage.ready()
    requests = counted(storage)
    for contact in range(200):
        calls.merge(CALL, received("CallStarted", contactID=contact))
    assert requests.count <= 46
    assert row(storage)["truncated"]
    again = Calls(storage, "LV")
    again.merge(CALL, received("CallConnected", contactID=150, callConnected="2024-05-31T10:00:12Z"))
    found = row(storage)
    assert (found["outcome"], found["answeredBy"].value, found["truncated"]) == ("talking", 150, True)


@pytest.mark.slow
def test_a_story_of_the_longest_texts_fits_its_row(storage: Storage, calls: Calls) -> None:
    for number in range(stories.MOST_PARTS):
        calls._known.clear()
        texts = {name: f"{name} {number} ".ljust(1000, chr(0x1F300 + number)) for name in ("caller", "destination")}
        event = received("CallRecorded", recordingID=number, **texts)
        calls.merge(CALL, event)
    assert row(storage)["revision"] > 10


@pytest.mark.parametrize(
    ("caller", "sender", "found"),
    [
        ("27771153", "+37127771153", True),
        ("anonymous", "", True),
        ("", "unavailable", True),
        ("", "+37127771153", False),
        ("anonymous", "+37127771153", False),
        ("27771153", "", False),
        ("27771153", "29999999", False),
        ("112", "112", True),
        ("112", "113", False),
    ],
)
def test_a_voicemail_finds_a__call_of_the_same_caller_only(calls: Calls, caller: str, sender: str, found: bool) -> None:
    calls.merge(CALL, received("CallStarted", caller=caller, callStarted="2024-05-31T10:00:00Z"))
    row = calls.find(START, sender or None)
    assert (row is not None) is found


def test_a_voicemail_is_entered_where_its_call_began_whenever_it_is_stored() -> None:
    fields = stored_audio("https://account.blob.example/voicemails/1.mp3") | {"callStarted": "2024-05-31T10:00:00Z"}
    for name in ("VoicemailCreated", "VoicemailStored"):
        event = received(name, voicemailID=5, callID=None, sender="27771153", **fields)
        assert {thing.moment for _, thing in pointers(event, "LV")} == {START}


def test_a_voicemail_that_may_belong_to_two_calls_belongs_to_none(calls: Calls) -> None:
    for call_id, found in ((77, True), (CALL, False)):
        event = received("CallStarted", callID=call_id, caller="27771153", callStarted="2024-05-31T10:00:00Z")
        calls.merge(call_id, event)
        assert (calls.find(START, "27771153") is not None) is found


def test_an_end_that_never_comes_is_given_up_until_it_does(storage: Storage, calls: Calls) -> None:
    calls.merge(CALL, received("CallStarted", contactID=5))
    week = (START - timedelta(days=1), START + timedelta(days=1))
    assert without_end(storage, *week, 10) == [CALL]
    calls.merge(CALL, None)
    assert row(storage)["outcome"] == "unknown"
    assert without_end(storage, *week, 10) == []
    Calls(storage, "LV").merge(CALL, received("CallStarted", contactID=6))
    assert row(storage)["outcome"] == "unknown"
    Calls(storage, "LV").merge(CALL, received("CallCompleted"))
    assert row(storage)["outcome"] == "missed"


def test_calls_are_listed_newest_first_a_part_at_a_time(calls: Calls, storage: Storage) -> None:
    hour = timedelta(hours=1)
    ids = [CALL + number * 3600 * 1_000_000 for number in range(4)]
    for call_id in (*ids, 7):
        calls.merge(call_id, received("CallStarted", callID=call_id))
    start, found = "", []
    for _ in range(3):
        part, start = newest(storage, limit=2, start=start, select=["callID"])
        found.append([row["callID"].value for row in part])
    assert found == [[ids[3], ids[2]], [ids[1], ids[0]], [7]]
    assert start == ""
    began = call_start(CALL)
    assert began
    part, _ = newest(storage, limit=9, first=began + hour, last=began + 3 * hour)
    assert [row["callID"].value for row in part] == [ids[2], ids[1]]
