"""A recording needs no call of the PBX: its event has the address, and the polled list the other fields."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from dev.simulator import Simulator
from dev.stored import put
from shared.bridge import Bridge
from shared.media.copy import _last_look, copy
from tests.copying import CALL, NAME, RECORDING, STARTED, announced, asked, audio, blobs, waiting
from tests.stored import dead_letters

if TYPE_CHECKING:
    from tests.outbox import Outbox


def event(pbx: Simulator, **changes: Any) -> dict[str, Any]:
    """Return a message with the fields of the PBX's event."""
    url = f"{pbx.url}/files/{audio(pbx).token}"
    record = {"recordingID": RECORDING, "callID": CALL, "callStarted": STARTED, "recordingURL": url, "direction": "in"}
    return asked(record=record | changes)


def poll(bridge: Bridge) -> None:
    item = {"recordingID": RECORDING, "caller": "27771153", "destination": "67000123", "contactID": 966}
    put(bridge.storage, "call_records", item)


def asks(pbx: Simulator) -> int:
    return len(pbx.calls_seen("GetCallRecordingByID"))


def test_a_polled_recording_is_stored_and_announced_without_a_call_of_the_pbx(bridge: Bridge, pbx: Simulator) -> None:
    poll(bridge)
    copy(bridge, event(pbx))
    assert list(blobs(bridge)) == [NAME]
    (message,) = announced(bridge)
    data = message["body"]["data"]
    assert (data["caller"], data["destination"], data["contactID"]) == ("27771153", "67000123", 966)
    assert "recordingURL" not in data
    assert not pbx.calls_seen()


def test_of_many_that_are_not_polled_yet_few_are_asked_for_and_none_is_lost(
    bridge: Bridge, pbx: Simulator, sent: Outbox
) -> None:
    for number in range(10):
        copy(bridge, event(pbx) | {"id": RECORDING - number})
    assert asks(pbx) <= 1
    assert len(blobs(bridge)) == 10
    waits = sent.take("media")
    assert len(waits) + len(sent.take("events")) == 10
    assert all(one.delay > 0 for one in waits)
    before = len(pbx.requests)
    poll(bridge)
    mine = next((one for one in waits if one.message["id"] == RECORDING), None)
    if mine is not None:
        copy(bridge, mine.message)
        assert sent.take("events")[0].message["body"]["data"]["contactID"] == 966
    assert len(pbx.requests) == before


def test_what_nobody_knows_is_announced_without_after_a_while(bridge: Bridge, pbx: Simulator, sent: Outbox) -> None:
    _last_look(bridge.storage)["at"] = math.inf
    message, looks = event(pbx), 0
    while True:
        copy(bridge, message)
        found = sent.take("media")
        if not found:
            break
        looks += 1
        assert "record" not in found[0].message
        message = {**found[0].message, "record": message["record"]}
    (stored,) = sent.take("events")
    assert 3 <= looks <= 20
    assert stored.message["body"]["data"]["callID"] == CALL
    assert "caller" not in stored.message["body"]["data"]


def test_an_address_that_has_expired_is_asked_for_at_the_third_try(bridge: Bridge, pbx: Simulator) -> None:
    expired = f"{pbx.url}/files/expired"
    for attempt in range(2):
        copy(bridge, {**event(pbx, recordingURL=expired), "attempt": attempt})
        assert waiting(bridge) == attempt + 1
    assert asks(pbx) == 0
    copy(bridge, {**event(pbx, recordingURL=expired), "attempt": 2})
    assert list(blobs(bridge)) == [NAME]
    assert asks(pbx) >= 1


@pytest.mark.parametrize("url", ["https://elsewhere.example/x", "http://169.254.169.254/x", "http://["])
def test_the_pbxs_own_address_decides_and_a_dead_letter_has_neither_address_nor_numbers(
    url: str, bridge: Bridge, pbx: Simulator
) -> None:
    message = event(pbx, recordingURL=url)
    copy(bridge, message)
    assert list(blobs(bridge)) == [NAME]
    assert not dead_letters(bridge.storage)
    pbx.edit("call_records", RECORDING, recordingURL="https://elsewhere.example/y")
    copy(bridge, message)
    (row,) = dead_letters(bridge.storage)
    assert str(RECORDING) in row["body"]
    assert not [text for text in ("elsewhere", "27771153") if text in row["body"]]


@pytest.mark.parametrize("said", ["000910001.0", " 910001 ", None, "none", True, "910004", 910_004, 910_004.0])
def test_a_record_is_known_by_its_id_however_that_is_written(said: Any, bridge: Bridge, pbx: Simulator) -> None:
    pbx.add("call_records", 910_001, callStarted=STARTED)
    pbx.edit("call_records", 910_001, recordingID=said)
    copy(bridge, asked(id=910_001))
    is_other = "910004" in str(said)
    assert list(blobs(bridge)) == ([] if is_other else ["2018/04/26/910001.mp3"])
    assert waiting(bridge) == is_other


def test_a_field_of_the_pbx_named_like_one_of_ours_is_not_taken_for_it(bridge: Bridge, pbx: Simulator) -> None:
    poll(bridge)
    copy(bridge, event(pbx, incomplete="n/a", size={"a": 1}, blobUrl="n/a"))
    (message,) = announced(bridge)
    data = message["body"]["data"]
    assert (data.get("incomplete"), data["size"]) == (None, audio(pbx).length)
    assert data["blobUrl"].endswith(NAME)
    assert not dead_letters(bridge.storage)
