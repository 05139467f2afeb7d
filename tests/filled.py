"""An account in which every table that others read has rows, each written by the app itself."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from board import access
from dev.simulator import Simulator
from shared import audit, health
from shared.errors import BridgeError
from shared.events.receive import accept
from shared.events.table import EVENTS
from shared.pbx.budget import Budget
from shared.pbx.client import Pbx
from shared.pbx.resources import RESOURCES
from shared.pipeline.queues import CONSUMERS, consume
from shared.polling.poll import poll
from shared.times import iso, now
from shared.webhooks.sync import keep
from shared.webhooks.table import end
from tests.polls import bridge_to

if TYPE_CHECKING:
    import pathlib

    from shared.bridge import Bridge
    from shared.settings import Settings
    from shared.storage.account import Storage


def fill(settings: Settings, fixtures: pathlib.Path) -> Storage:
    """Have the app poll, register, receive and process; returns the account."""
    with Simulator("test-key") as pbx:
        bridge = bridge_to(
            pbx,
            settings,
            public_base_url="https://bridge.example/",
            pbx_webhook_key="hook-key-hook-key",
            poll_start="all",
        )
        bridge = replace(bridge, pbx=Pbx(bridge.settings, Budget(bridge.storage, bridge.settings.pbx_host)))
        bridge.storage.ready()
        _work(bridge, pbx, fixtures)
        return bridge.storage


def _work(bridge: Bridge, pbx: Simulator, fixtures: pathlib.Path) -> None:
    for resource in RESOURCES:
        numbers = list(pbx.bulk(resource.name, 3))
        poll(bridge, resource)
        if resource.editable:
            pbx.remove(resource.name, numbers[0])
            poll(bridge, resource, at=now() + timedelta(minutes=15))
    keep(bridge)
    for event in EVENTS:
        if event.source == "pbx":
            accept(bridge.storage, bridge.settings, event, (fixtures / f"{event.name}.json").read_bytes())
    with suppress(BridgeError):
        accept(bridge.storage, bridge.settings, EVENTS[0], b"{")
    for _ in range(2):
        for consumer in CONSUMERS:
            _drain(bridge, consumer)
    health.flush(bridge.storage)
    access.is_right(bridge.storage, "board", "wrong", "right")
    access.enter(bridge.storage, bridge.settings, access.once_token(bridge.settings))
    audit.record(bridge.storage, who="key", what="retry", count=1, result="done")
    end(bridge.storage, iso(now()))


def _drain(bridge: Bridge, consumer: Any) -> None:
    client = bridge.storage.queue(consumer.queue)
    for message in client.receive_messages(messages_per_page=32):
        consume(bridge, consumer, message.content.encode(), id=message.id, attempt=1)
        client.delete_message(message)
