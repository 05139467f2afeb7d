"""Helpers of the tests of the media copier: its messages, and the blobs it leaves."""

from __future__ import annotations

import json
from typing import Any

from dev.simulator import AudioFile, Simulator
from shared.bridge import Bridge

CALL = 1524664459097344
RECORDING = 2**62 + 7
VOICEMAIL = 171118926552
STARTED = "2018-04-25T23:54:19-0300"
NAME = f"2018/04/26/{RECORDING}.mp3"


def asked(kind: str = "recording", action: str = "copy", **changes: Any) -> dict[str, Any]:
    id = RECORDING if kind == "recording" else VOICEMAIL
    times = {"received": "2018-04-26T02:57:24Z", "first": "2018-04-26T02:57:24Z"}
    return {"kind": kind, "id": id, "action": action, "event": "e1", "callID": None, **times, "attempt": 0, **changes}


def audio(pbx: Simulator) -> AudioFile:
    return pbx.file("call_records", RECORDING)


def blobs(bridge: Bridge, container: str = "recordings") -> dict[str, Any]:
    return {blob.name: blob for blob in bridge.storage.container(container).list_blobs(include=["metadata", "tags"])}


def waiting(bridge: Bridge, queue: str = "media") -> int:
    return bridge.storage.queue(queue).get_queue_properties().approximate_message_count or 0


def announced(bridge: Bridge) -> list[dict[str, Any]]:
    return [json.loads(message.content) for message in bridge.storage.queue("events").receive_messages()]
