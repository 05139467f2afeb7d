"""The media copier: whole or not at all, once, and never from anywhere else."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from dev.simulator import Simulator
from shared import people
from shared.bridge import Bridge
from shared.errors import BudgetExhausted, PbxRetriable, Unprocessable
from shared.events.event import event_of
from shared.media.copy import DELAYS, copy
from shared.pbx.budget import Budget
from shared.storage.account import BLOCK_BYTES
from shared.times import now
from tests.copying import CALL, NAME, RECORDING, STARTED, announced, asked, audio, blobs, waiting
from tests.dying import is_killed
from tests.outbox import outbox
from tests.stored import dead_letters


def test_a_recording_is_kept_with_all_that_is_known_and_announced_without_its_address(
    bridge: Bridge, pbx: Simulator
) -> None:
    copy(bridge, asked())
    (blob,) = blobs(bridge).values()
    assert blob.name == NAME
    assert blob.size == audio(pbx).length
    assert blob.metadata == {
        "sha256": audio(pbx).sha256(),
        "size": str(audio(pbx).length),
        "sourceId": str(RECORDING),
        "callID": str(CALL),
        "contactID": "966",
        "direction": "in",
        "callStarted": "2018-04-26T02:54:19Z",
        "attempts": "1",
        "event": "e1",
    }
    assert blob.tags == {
        "kind": "recording",
        "sourceId": str(RECORDING),
        "callID": str(CALL),
        "contactID": "966",
        "direction": "in",
        "date": "2018-04-26",
    }
    (event,) = announced(bridge)
    data = event["body"]["data"]
    assert (event["event"], event["origin"]) == ("RecordingStored", "bridge")
    assert (data["recordingID"], data["callID"], data["caller"]) == (RECORDING, CALL, "27771153")
    assert data["blobUrl"].endswith(f"/recordings/{NAME}")
    assert (data["contentType"], data["sha256"]) == ("audio/mpeg", audio(pbx).sha256())
    assert "recordingURL" not in data and "/files/" not in json.dumps(event)
    assert event_of(event).drift == []


@pytest.mark.parametrize("size", [BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5])
def test_any_size_is_copied_to_the_byte(size: int, bridge: Bridge, pbx: Simulator) -> None:
    audio(pbx).size = size
    copy(bridge, asked())
    content = bridge.storage.container("recordings").download_blob(NAME).readall()
    assert len(content) == size
    assert hashlib.sha256(content).hexdigest() == audio(pbx).sha256() == blobs(bridge)[NAME].metadata["sha256"]


UNREADY: dict[str, dict[str, Any]] = {
    **{str(status): {"ready_tries": 1, "late_status": status} for status in (404, 429, 500, 200)},
    **{fault: {"fault": fault} for fault in ("html", "empty", "truncated", "longer")},
    "JSON": {"kind": "raw", "body": b'{"statusCode": 404}'},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", UNREADY.values(), ids=UNREADY)
def test_what_is_not_ready_is_asked_for_again_and_nothing_of_it_shows(
    changes: dict[str, Any], bridge: Bridge, pbx: Simulator
) -> None:
    for name, value in changes.items():
        setattr(audio(pbx), name, value)
    copy(bridge, asked())
    assert not blobs(bridge)
    assert waiting(bridge) == 1
    assert not announced(bridge)


def test_a_long_file_that_breaks_off_leaves_nothing_visible(bridge: Bridge, pbx: Simulator) -> None:
    audio(pbx).size, audio(pbx).fault = 4 * BLOCK_BYTES, "truncated"
    copy(bridge, asked())
    assert not blobs(bridge)
    audio(pbx).fault = ""
    copy(bridge, asked(attempt=1))
    assert blobs(bridge)[NAME].metadata["attempts"] == "2"


@pytest.mark.parametrize("size", [20_000, 4 * BLOCK_BYTES])
def test_a_file_that_breaks_off_on_every_try_is_kept_at_the_end_and_marked(
    size: int, bridge: Bridge, pbx: Simulator
) -> None:
    audio(pbx).size, audio(pbx).fault = size, "truncated"
    copy(bridge, asked(attempt=len(DELAYS)))
    assert blobs(bridge)[NAME].metadata["incomplete"] == "container"
    assert not dead_letters(bridge.storage)


class Exhausted:
    """A budget with no call left."""

    def take(self, lane: str, *, until: float | None = None) -> None:
        raise BudgetExhausted(17)


def test_a_pbx_out_of_reach_or_without_a_call_left_is_waited_for_without_a_try_of_the_file(
    bridge: Bridge, pbx: Simulator
) -> None:
    for fault in ("status", "html", "reset"):
        pbx.faults.add(fault, "GetCallRecordingByID")
        with pytest.raises(PbxRetriable):
            copy(bridge, asked())
        pbx.faults.clear()
    bridge.pbx._budget = cast("Budget", Exhausted())
    with pytest.raises(BudgetExhausted):
        copy(bridge, asked(attempt=3))
    assert not waiting(bridge)


def test_what_must_not_be_fetched_is_a_dead_letter_at_once(
    bridge: Bridge, pbx: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    pbx.edit("call_records", RECORDING, recordingURL="https://elsewhere.example/files/x")
    with caplog.at_level(logging.DEBUG):
        copy(bridge, asked())
    assert not blobs(bridge)
    assert not waiting(bridge)
    assert [row["reason"] for row in dead_letters(bridge.storage)] == ["elsewhere.example is not in MEDIA_HOSTS"]
    assert "/files/" not in "".join(record.getMessage() for record in caplog.records if record.name[:6] == "shared")
    assert "secret-key" not in caplog.text


def test_a_redirect_to_a_host_outside_waits_and_names_it_at_its_end(bridge: Bridge, pbx: Simulator) -> None:
    audio(pbx).fault, audio(pbx).location = "redirect", "https://media.example/files/x"
    copy(bridge, asked())
    assert waiting(bridge) == 1
    assert not dead_letters(bridge.storage)
    copy(bridge, asked(attempt=len(DELAYS)))
    (row,) = dead_letters(bridge.storage)
    assert row["reason"] == "redirected, and media.example is not in MEDIA_HOSTS"


def test_a_private_address_behind_an_allowed_name_is_refused_when_connecting(
    open_bridge: Callable[..., Bridge], pbx: Simulator, bridge: Bridge
) -> None:
    # A PBX that is no simulator on this machine: then this machine is a private address like any other.
    url = f"https://localhost:{pbx.url.rpartition(':')[2]}/files/x"
    pbx.edit("call_records", RECORDING, recordingURL=url)
    remote = open_bridge(PBX_BASE_URL="https://pbx.example/api/v2/", MEDIA_HOSTS="localhost")
    copy(Bridge(settings=remote.settings, storage=bridge.storage, pbx=bridge.pbx), asked())
    assert [row["reason"] for row in dead_letters(bridge.storage)] == ["a private address"]


def test_the_key_goes_to_the_pbx_and_to_no_other_origin(bridge: Bridge, open_bridge: Callable[..., Bridge]) -> None:
    with Simulator(api_key="other") as other, Simulator(api_key="secret-key") as pbx:
        # The same host on another port is another origin.
        pbx.add("call_records", RECORDING, callID=CALL, callStarted=STARTED)
        other.add("call_records", RECORDING, callID=CALL, callStarted=STARTED)
        audio(pbx).fault, audio(pbx).location = "redirect", f"{other.url}/files/{audio(other).token}"
        copy(open_bridge(PBX_BASE_URL=pbx.base_url), asked())
        assert [seen.authorized for seen in pbx.requests if seen.path.startswith("/files/")] == [True]
        assert [seen.authorized for seen in other.requests if seen.path.startswith("/files/")] == [False]
    assert NAME in blobs(bridge)


@pytest.mark.parametrize("size", [36_000, 2 * BLOCK_BYTES], ids=["short", "long"])
def test_the_same_bytes_again_write_nothing_and_others_are_kept_beside_them_and_reported(
    size: int, bridge: Bridge, pbx: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    audio(pbx).size = size
    copy(bridge, asked())
    before = blobs(bridge)[NAME]
    copy(bridge, asked(attempt=3))
    assert blobs(bridge)[NAME].etag == before.etag
    first, again = announced(bridge)
    assert first["id"] == again["id"]
    audio(pbx).tone = 5
    for _ in range(2):
        copy(bridge, asked())
    assert blobs(bridge).keys() == {NAME, f"2018/04/26/{RECORDING}.{audio(pbx).sha256()[:12]}.mp3"}
    assert "signal media_conflict kind=recording" in caplog.text
    other, again = announced(bridge)
    assert other["id"] == again["id"] != first["id"]


def test_bytes_that_are_kept_beside_others_go_too_where_their_caller_was_erased_meanwhile(
    open_bridge: Callable[..., Bridge], bridge: Bridge, pbx: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "MEMORY_SECONDS", 3600)
    copy(bridge, asked())
    people.forget(open_bridge().storage, {people.number("27771153", "LV")}, now())
    audio(pbx).tone = 5
    copy(bridge, asked())
    assert not blobs(bridge)


@pytest.mark.slow
# A killed process closes no connection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
@pytest.mark.parametrize("kind", ["recording", "voicemail", "long recording"])
def test_a_copier_killed_at_any_step_is_finished_by_the_next_delivery(
    kind: str, after: bool, open_bridge: Callable[..., Bridge], bridge: Bridge, pbx: Simulator
) -> None:
    audio(pbx).size = 2 * BLOCK_BYTES if kind == "long recording" else 36_000
    message = asked(kind.rpartition(" ")[2])
    container = f"{message['kind']}s"
    for step in itertools.count(1):
        doomed = open_bridge()
        if not is_killed(doomed.storage, step, copy, doomed, message, after=after):
            break
        copy(open_bridge(), message)
        (name,) = blobs(bridge, container)
        assert len({event["id"] for event in announced(bridge)}) == 1
        bridge.storage.container(container).delete_blob(name)
        bridge.storage.queue("events").clear_messages()
    assert step > 2


def test_two_copiers_at_once_leave_one_file(open_bridge: Callable[..., Bridge], bridge: Bridge, pbx: Simulator) -> None:
    audio(pbx).size = 3 * BLOCK_BYTES
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: copy(open_bridge(), asked()), range(4)))
    (blob,) = blobs(bridge).values()
    assert blob.metadata["sha256"] == audio(pbx).sha256()
    content = bridge.storage.container("recordings").download_blob(NAME).readall()
    assert hashlib.sha256(content).hexdigest() == audio(pbx).sha256()
    assert len({event["id"] for event in announced(bridge)}) == 1


@pytest.mark.parametrize(
    ("record", "call_id", "date"),
    [
        ({"callStarted": ""}, CALL, "2018/04/25"),
        ({"callStarted": None, "callID": None}, CALL, "2018/04/25"),
        ({"callStarted": None, "callID": None}, None, "2018/04/26"),
    ],
    ids=["by the callID", "by the event's callID", "by the day of its event"],
)
def test_without_a_start_the_date_comes_from_what_is_known(
    record: dict[str, Any], call_id: int | None, date: str, bridge: Bridge, pbx: Simulator
) -> None:
    pbx.edit("call_records", RECORDING, **record)
    copy(bridge, asked(callID=call_id))
    assert list(blobs(bridge)) == [f"{date}/{RECORDING}.mp3"]


def test_memory_stays_flat_for_a_large_file(bridge: Bridge, pbx: Simulator) -> None:
    copy(bridge, asked())
    bridge.storage.container("recordings").delete_blob(NAME)
    audio(pbx).size = 64 * 1024 * 1024
    tracemalloc.start()
    try:
        copy(bridge, asked())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert blobs(bridge)[NAME].size == 64 * 1024 * 1024
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize("message", [{}, {"kind": "fax"}, asked(id="x"), asked(action="burn"), asked(received=None)])
def test_a_message_that_asks_for_no_media_can_never_succeed(message: dict[str, Any], bridge: Bridge) -> None:
    with pytest.raises(Unprocessable):
        copy(bridge, message)


def test_a_file_that_never_comes_is_tried_seven_times_reported_after_an_hour_and_then_a_dead_letter(
    bridge: Bridge, pbx: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    audio(pbx).gone = True
    copy(bridge, asked(received="2999-01-01T00:00:00Z"))
    assert "signal" not in caplog.text
    sent, message = outbox(bridge.storage), asked(callID=CALL)
    for delay in (5, 30, 120, 600, 3600, 21600, 86400):
        copy(bridge, message)
        assert not dead_letters(bridge.storage)
        (again,) = sent.take("media")
        assert again.delay == delay
        message = again.message
    copy(bridge, message)
    assert not sent.take("media")
    assert message.items() >= {**asked(callID=CALL), "attempt": len(DELAYS)}.items()
    (row,) = dead_letters(bridge.storage)
    assert (row["kind"], row["id"], row["reason"]) == ("media", f"recording-{RECORDING}-copy", "answered 404")
    assert row["attempts"] == len(DELAYS) + 1
    assert f"signal media_waiting kind=recording id={RECORDING}" in caplog.text


def test_no_word_of_the_pbx_becomes_a_header_or_a_number_in_metadata(bridge: Bridge, pbx: Simulator) -> None:
    pbx.edit("call_records", RECORDING, direction="ienākošs\r\nx-ms-meta-evil: 1", contactID="")
    copy(bridge, asked())
    (blob,) = blobs(bridge).values()
    assert not {"direction", "contactID", "evil"} & blob.metadata.keys()
    assert not [number for number in ("27771153", "67000123") if number in f"{blob.name}{blob.metadata}{blob.tags}"]
