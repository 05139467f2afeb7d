"""A voicemail that was deleted without a webhook is found by the sweep, and its audio stays."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared import health
from shared.events.receive import submit
from shared.media.copy import copy
from shared.media.deletions import may_delete, withdraw
from shared.media.table import MEDIA
from shared.polling.poll import poll
from shared.polling.sweep import sweep
from shared.storage.messages import read
from shared.times import iso, now
from tests.polls import VOICEMAILS, run_pipeline, stored_ids, submitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.simulator import Simulator
    from shared.bridge import Bridge


def media(bridge: Bridge) -> list[dict[str, Any]]:
    """Run what is queued for the copier; the messages."""
    queue, found = bridge.storage.queue("media"), []
    for message in queue.receive_messages():
        found.append(read(bridge.storage, message.content.encode()))
        copy(bridge, found[-1])
        queue.delete_message(message)
    return found


def test_a_deletion_without_a_webhook_is_inferred_once_and_deletes_no_audio(
    pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    bridge = start(mirror_voicemail_deletes=True)
    begin = now() - timedelta(days=40)
    old = [pbx.add("voicemails", sender="27771153", callStarted=begin, length=1) for _ in range(5)]
    poll(bridge, VOICEMAILS)
    bridge.storage.container("voicemails").upload_blob("2026/01/01/1.mp3", b"audio")
    keys = {"PartitionKey": "voicemail", "RowKey": f"{old[2]:020d}"}
    bridge.storage.table("media").create_entity({**keys, "blob": "2026/01/01/1.mp3"})
    pbx.remove("voicemails", old[2])
    sweep(bridge)
    assert submitted(bridge.storage) == []
    sweep(bridge, at=now() + timedelta(hours=1))
    messages = run_pipeline(bridge)
    assert [(message["event"], message["origin"]) for message in messages] == [("VoicemailDeleted", "reconciled")]
    assert messages[0]["body"]["data"]["voicemailID"] == old[2]
    assert "messageURL" not in messages[0]["body"]["data"]
    assert [message["inferred"] for message in media(bridge)] == [True]
    (blob,) = bridge.storage.container("voicemails").list_blobs(include=["metadata"])
    assert "deletedAtPbx" in blob.metadata
    sweep(bridge, at=now() + timedelta(hours=2))
    assert submitted(bridge.storage) == []
    assert stored_ids(bridge.storage, VOICEMAILS.name) == [number for number in old if number != old[2]]
    health.flush(bridge.storage)
    assert health.days(bridge.storage, 1)[0]["lost"]["VoicemailDeleted"] == 1
    # The PBX itself says so in the end.
    for _ in range(2):
        submit(bridge.storage, bridge.settings, "VoicemailDeleted", {"voicemailID": old[2]}, origin="webhook")
        run_pipeline(bridge)
    assert [message["inferred"] for message in media(bridge)] == [False]
    assert list(bridge.storage.container("voicemails").list_blobs()) == []


def test_what_was_inferred_after_the_pbx_said_so_takes_nothing_back(start: Callable[..., Bridge]) -> None:
    bridge = start(mirror_voicemail_deletes=True)
    (voicemail,) = [row for row in MEDIA if row.deletable]
    for inferred, may in ((True, False), (False, True), (True, True)):
        withdraw(bridge.storage, voicemail, 5, when=iso(now()), delete=True, inferred=inferred)
        assert may_delete(bridge.storage, voicemail, 5) is may


@pytest.mark.parametrize(
    "lie", [{"kind": "status", "status": 404}, {"kind": "wrapper", "value": {"data": []}}], ids=lambda lie: lie["kind"]
)
def test_one_empty_answer_deletes_nothing(lie: dict[str, Any], pbx: Simulator, start: Callable[..., Bridge]) -> None:
    bridge = start()
    pbx.bulk("voicemails", 5)
    poll(bridge, VOICEMAILS)
    pbx.faults.add(**lie, match="GetVoicemail*")
    sweep(bridge)
    sweep(bridge, at=now() + timedelta(minutes=30))
    pbx.faults.clear()
    sweep(bridge, at=now() + timedelta(hours=2))
    assert submitted(bridge.storage) == []


def test_a_list_that_cannot_be_read_to_its_end_deletes_nothing(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    bridge = start()
    for _ in range(40):
        pbx.add("voicemails", callStarted=None)
    poll(bridge, VOICEMAILS)
    pbx.options.offset_cap, pbx.options.page_cap = 10, 10
    for hour in range(4):
        with pytest.raises(Exception, match="offset"):
            sweep(bridge, at=now() + timedelta(hours=hour))
    assert submitted(bridge.storage) == []


def test_one_that_comes_back_is_there_again(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    bridge = start()
    *_, gone = pbx.bulk("voicemails", 5)
    poll(bridge, VOICEMAILS)
    item = pbx.item("voicemails", gone)
    pbx.remove("voicemails", gone)
    for hour in range(2):
        sweep(bridge, at=now() + timedelta(hours=hour))
    assert gone not in stored_ids(bridge.storage, VOICEMAILS.name)
    pbx.rows["voicemails"].put(gone, item)
    sweep(bridge, at=now() + timedelta(hours=3))
    assert gone in stored_ids(bridge.storage, VOICEMAILS.name)
