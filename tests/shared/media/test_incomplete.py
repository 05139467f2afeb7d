"""Audio is stored once it is complete; audio that stays incomplete is kept, marked, and checked again."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dev.simulator import AudioFile, Simulator
from shared.bridge import Bridge
from shared.media.copy import DELAYS, copy
from tests.copying import NAME, RECORDING, asked, audio, blobs
from tests.raw import RawServer, fixed, head
from tests.stored import dead_letters

if TYPE_CHECKING:
    from tests.outbox import Outbox

FILES = Path(__file__).parents[2] / "fixtures" / "audio"
WAV = (FILES / "tone.wav").read_bytes()
WAV_NAME = NAME.replace(".mp3", ".wav")


def raw(pbx: Simulator, body: bytes) -> AudioFile:
    file = audio(pbx)
    file.body, file.content_type = body, "audio/wav"
    return file


@pytest.mark.parametrize("body", [WAV[:58], WAV[:5000]], ids=["header", "part"])
def test_what_is_not_all_there_is_asked_for_again_kept_at_the_end_and_replaced_by_more(
    body: bytes, bridge: Bridge, pbx: Simulator, sent: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    file = raw(pbx, body)
    copy(bridge, asked())
    assert not blobs(bridge)
    assert not sent.take("events")
    (again,) = sent.take("media")
    assert again.delay == DELAYS[0]
    copy(bridge, asked(attempt=len(DELAYS)))
    (blob,) = blobs(bridge).values()
    assert (blob.name, blob.size, blob.metadata["incomplete"]) == (WAV_NAME, len(body), "container")
    assert f"signal media_incomplete kind=recording id={RECORDING}" in caplog.text
    assert not sent.take("media")
    assert not dead_letters(bridge.storage)
    (event,) = sent.take("events")
    assert event.message["body"]["data"]["incomplete"] is True
    file.body = WAV
    copy(bridge, again.message)
    (blob,) = blobs(bridge).values()
    assert (blob.size, "incomplete" in blob.metadata) == (len(WAV), False)


def test_a_packed_file_that_breaks_off_is_asked_for_again_and_kept_at_the_end(
    bridge: Bridge, pbx: Simulator, sent: Outbox
) -> None:
    packed = gzip.compress(b"".join(audio(pbx).blocks()))[:-40]
    answer = fixed(head("Content-Encoding: gzip", f"Content-Length: {len(packed)}"), packed)
    with RawServer() as server:
        server.answers += [answer] * 2
        pbx.edit("call_records", RECORDING, recordingURL=f"{server.origin}/file")
        copy(bridge, asked())
        assert not blobs(bridge)
        assert [one.delay for one in sent.take("media")] == [DELAYS[0]]
        copy(bridge, asked(attempt=len(DELAYS)))
    assert blobs(bridge)[NAME].metadata["incomplete"] == "container"
    assert not dead_letters(bridge.storage)


def test_a_caller_who_hangs_up_at_the_beep_is_no_alarm_and_no_dead_letter(
    bridge: Bridge, pbx: Simulator, sent: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    pbx.edit("call_records", RECORDING, connectionTime="0")
    audio(pbx).fault = "empty"
    copy(bridge, asked())
    assert [one.delay for one in sent.take("media")] == [DELAYS[0]]
    copy(bridge, asked(attempt=len(DELAYS)))
    audio(pbx).fault = ""
    # A header that declares nothing.
    raw(pbx, WAV[:4] + bytes(4) + WAV[8:54] + bytes(4))
    copy(bridge, asked())
    (blob,) = blobs(bridge).values()
    assert "incomplete" not in blob.metadata
    assert len(sent.take("events")) == 1
    assert not sent.take("media")
    assert not dead_letters(bridge.storage)
    assert "signal" not in caplog.text


@pytest.mark.parametrize("name", ["opus.ogg", "index-last.m4a", "tone.flac", "tone.wav"])
def test_audio_far_shorter_than_its_call_is_marked_whatever_its_container(
    name: str, bridge: Bridge, pbx: Simulator
) -> None:
    pbx.edit("call_records", RECORDING, connectionTime=20)
    raw(pbx, (FILES / name).read_bytes())
    copy(bridge, asked())
    (blob,) = blobs(bridge).values()
    assert blob.metadata["incomplete"] == "short"


def short(pbx: Simulator, seconds: Any = 300) -> AudioFile:
    # 36,000 bytes at 32 kbit/s play nine seconds.
    file = audio(pbx)
    pbx.edit("call_records", RECORDING, connectionTime=seconds)
    return file


def test_audio_far_shorter_than_its_call_is_announced_at_once_and_looked_at_again_for_more_bytes(
    bridge: Bridge, pbx: Simulator, sent: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    file = short(pbx)
    copy(bridge, asked())
    assert blobs(bridge)[NAME].metadata["incomplete"] == "short"
    assert sent.take("events")[0].message["body"]["data"]["incomplete"] is True
    (again,) = sent.take("media")
    assert again.delay == DELAYS[0]
    copy(bridge, again.message)
    (again,) = sent.take("media")
    before, file.size = blobs(bridge)[NAME], 20_000
    copy(bridge, again.message)
    assert blobs(bridge)[NAME].etag == before.etag
    (again,) = sent.take("media")
    file.size = 1_200_000
    copy(bridge, again.message)
    blob = blobs(bridge)[NAME]
    assert (blob.size, "incomplete" in blob.metadata) == (1_200_000, False)
    assert blob.metadata["sha256"] == file.sha256()
    assert not sent.take("media")
    data = sent.take("events")[-1].message["body"]["data"]
    assert (data["size"], data.get("incomplete")) == (1_200_000, None)
    assert list(blobs(bridge)) == [NAME]
    assert "media_conflict" not in caplog.text


def test_a_short_file_that_stays_short_or_goes_away_is_kept_and_signalled_at_the_end(
    bridge: Bridge, pbx: Simulator, sent: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    file, message = short(pbx), asked()
    looks = 0
    while True:
        copy(bridge, message)
        found = sent.take("media")
        if not found:
            break
        looks, message = looks + 1, found[0].message
        file.gone = looks > 3
    assert looks == len(DELAYS)
    assert blobs(bridge)[NAME].metadata["incomplete"] == "short"
    assert caplog.text.count("signal media_incomplete") == 1
    assert "media_waiting" not in caplog.text
    assert not dead_letters(bridge.storage)


@pytest.mark.parametrize(
    ("ended", "lack"), [("03:04:19", "short"), ("02:54:33", None), ("02:50:00", None), ("late", None)]
)
def test_the_length_of_a_call_without_one_is_from_its_connection_to_its_end(
    ended: str, lack: str | None, bridge: Bridge, pbx: Simulator
) -> None:
    short(pbx, None)
    talk = {"callConnected": "2018-04-26T02:54:19+0000", "callEnded": f"2018-04-26T{ended}+0000"}
    pbx.edit("call_records", RECORDING, **talk)
    copy(bridge, asked())
    assert blobs(bridge)[NAME].metadata.get("incomplete") == lack


@pytest.mark.parametrize("seconds", [None, "long", 14, -5, True, 10**12])
def test_a_short_but_real_recording_is_whole(seconds: Any, bridge: Bridge, pbx: Simulator) -> None:
    short(pbx, seconds)
    copy(bridge, asked())
    assert "incomplete" not in blobs(bridge)[NAME].metadata
