"""A busy account: two callers, with everything that the app keeps of each, and a search of every byte."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from dev.simulator import Simulator
from functions.background import ALL_CONSUMERS
from shared import audit
from shared.bridge import Bridge
from shared.errors import BridgeError
from shared.events.event import accept
from shared.events.table import event_named
from shared.pbx.resources import resource
from shared.pipeline.queues import consume
from shared.polling.poll import poll
from shared.settings import Settings
from shared.storage.account import CONTAINERS, POISON, QUEUES, TABLES, Storage
from shared.storage.messages import dead_letter, send
from shared.subscriptions import Subscription, subscriptions
from shared.times import now
from tests.polls import bridge_to

NUMBER, OTHER = "27771153", "26123456"
RECORDING, VOICEMAIL = 5001, 6001
# Some hours ago, as polls see it.
BEGAN = now() - timedelta(hours=2 if (now() - timedelta(hours=2)).minute < 29 else 2.5)
CALL = int(BEGAN.timestamp()) * 1_000_000 + 97_344
OTHER_CALL = CALL + 40_000_000


def spelled(minutes: float) -> str:
    """Return a time so many minutes after BEGAN in the PBX's format."""
    return (BEGAN + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S+0000")


STARTED, DAY = spelled(0), f"{BEGAN:%Y/%m/%d}"


@pytest.fixture
def pbx() -> Iterator[Simulator]:
    with Simulator("test-key") as pbx:
        yield pbx


@pytest.fixture
def busy(pbx: Simulator, settings: Settings) -> Busy:
    bridge = bridge_to(pbx, settings, poll_start="all")
    bridge.storage.ready()
    return Busy(bridge, pbx)


@dataclass
class Busy:
    """An app at work, a step at a time."""

    bridge: Bridge
    pbx: Simulator

    def hear(self, event: str, **data: Any) -> None:
        body = {"type": "Event", "eventType": event, "version": "v1", "data": data}
        accept(self.bridge, event_named(event), json.dumps(body).encode())

    def work(self, *consumers: Any) -> None:
        """Process these queues, or all, until they are empty."""
        ran = True
        while ran:
            ran = False
            for consumer in consumers or ALL_CONSUMERS:
                client = self.bridge.storage.queue(consumer.queue)
                for message in client.receive_messages(messages_per_page=32):
                    content = message.content.encode()
                    consume(self.bridge, consumer, content, id=message.id, attempt=1)
                    client.delete_message(message)
                    ran = True

    def again(self) -> Busy:
        """Another process on the same account."""
        bridge = self.bridge
        return Busy(
            Bridge(settings=bridge.settings, storage=Storage(bridge.settings.storage), pbx=bridge.pbx), self.pbx
        )

    def call(self, number: str, call: int, recording: int | None = None) -> None:
        common: dict[str, Any] = {"callID": call, "callStarted": STARTED, "direction": "in"}
        self.hear("CallStarted", caller=number, destination="67000123", **common)
        done = {"connectionTime": 40, "callConnected": spelled(0.2), "contactID": 971}
        self.hear("CallCompleted", caller=number, destination="67000123", **common, **done)
        self.pbx.add("call_history", call, caller=number, destination="67000123", **common, **done)
        if recording is not None:
            self.pbx.add("call_records", recording, caller=number, destination="67000123", contactID=971, **common)
            url = f"{self.pbx.url}/files/{self.pbx.file('call_records', recording).token}"
            self.hear("CallRecorded", recordingID=recording, recordingURL=url, **common)

    def leave(self, number: str, recording: int, voicemail: int, call: int) -> None:
        """Have the app keep everything there is of a caller."""
        storage = self.bridge.storage
        self.call(number, call, recording)
        self.pbx.add("voicemails", voicemail, sender=number, callStarted=spelled(30), length=9)
        url = f"{self.pbx.url}/files/{self.pbx.file('voicemails', voicemail).token}"
        dated = {"sender": number, "callStarted": spelled(30)}
        self.hear("VoicemailCreated", voicemailID=voicemail, messageURL=url, **dated)
        lost = {"callerid": f"+371{number}", "destination": "67000123", "attempts": 1}
        self.hear("LostCallerAdded", last_contact=spelled(10), **lost)
        self.hear("LostCallerAdded", last_contact=spelled(12), **{**lost, "callerid": f"{number} or 112"})
        self.hear("CallCompleted", callID=call + 5_000_000, caller="anonymous", note=f"from {number[:4]} {number[4:]}")
        self.work()
        for name in ("call_history", "call_records", "voicemails", "contacts"):
            poll(self.bridge, resource(name))
        self.work()
        with pytest.raises(BridgeError):
            self.hear("CallCompleted", caller=number)
        odd = f"{number};".encode() * 9000
        dead_letter(storage, kind="polled", id=f"call_history-{call}", reason="no id", body=odd)
        for queue in ("events", "events" + POISON):
            send(storage, queue, {"note": f"00 371 {number}"}, name=f"x{call}")
        send(storage, "media", {"kind": "none", "note": number, "long": "x" * 70_000}, name=f"y{call}")
        failed = {"id": "z", "body": {"data": {"caller": number}}, "tries": {"others": 1}}
        send(storage, "events", failed, name="z", delay=3600)
        audit.record(storage, who="key", what="close", count=1, result="done", note=f"rang (371) {number}")
        filtered = Subscription.new(
            event="CallStarted", endpoint=f"https://flows.example/{call}", wanted={"caller": f"+371{number}"},
            shape="native", secret=None,
        )  # fmt: skip
        subscriptions(self.bridge).make(filtered)


def bytes_of(storage: Storage) -> Iterator[tuple[str, str]]:
    """Yield every text in storage, each with its place."""
    for name in TABLES:
        for row in storage.table(name).list_entities():
            for column, value in row.items():
                if isinstance(value, bytes):
                    with suppress(zlib.error):
                        value = zlib.decompress(value)  # noqa: PLW2901 - what is packed is looked into
                    value = value.decode(errors="replace")  # noqa: PLW2901
                yield f"{name} {row['PartitionKey']} {row['RowKey']} {column}", str(value)
    for name in [queue + suffix for queue in QUEUES for suffix in ("", POISON)]:
        for message in storage.queue(name).peek_messages(max_messages=32):
            yield f"queue {name}", str(message.content)
    for name in CONTAINERS:
        for blob in storage.container(name).list_blobs(include=["metadata", "tags"]):
            yield f"{name} {blob.name}", f"{blob.name} {blob.metadata} {blob.tags}"
            yield f"{name} {blob.name}", storage.container(name).download_blob(blob.name).readall().decode("latin-1")


def places_of(storage: Storage, number: str) -> list[str]:
    """Return the places of a number, however its digits are set apart."""
    wanted = re.compile(r"[^0-9A-Za-z]{0,3}".join(number))
    return [place for place, text in bytes_of(storage) if wanted.search(text)]
