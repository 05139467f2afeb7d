"""
Messages and rows as a release writes them, kept in tests/fixtures/golden/{version}.json.

`python -m tests.golden` records those of today's version; do that with the release that raises it.
"""

from __future__ import annotations

import base64
import json
import pathlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.data.tables import EdmType, EntityProperty

from dev.azurite import AzuriteProcess
from shared import health
from shared.bridge import assemble
from shared.events.receive import accept
from shared.events.table import EVENTS
from shared.pipeline.queues import CONSUMERS, consume
from shared.polling import checkpoints
from shared.settings import Settings
from shared.storage.dead_letters import dead_letter
from shared.storage.versions import VERSION
from shared.subscriptions.store import subscriptions
from shared.subscriptions.subscription import Subscription
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage

ROOT = pathlib.Path(__file__).parent / "fixtures"
GOLDEN = ROOT / "golden"
TABLES = ("events", "feed", "calls", "subscriptions", "deliveries", "health", "checkpoints", "deadletters")
ENVIRONMENT = {"PBX_BASE_URL": "http://127.0.0.1:9/api/v2/", "PBX_API_KEY": "k", "ALLOW_LOOPBACK_CALLBACKS": "true"}


def fixtures() -> dict[str, bytes]:
    """The PBX's webhooks by the event's name."""
    webhooks = [event.name for event in EVENTS if event.source == "pbx"]
    return {name: (ROOT / "events" / f"{name}.json").read_bytes() for name in webhooks}


def take(storage: Storage, queue: str) -> list[str]:
    """The bodies on a queue, taken off it."""
    client, bodies = storage.queue(queue), []
    for message in client.receive_messages(messages_per_page=32):
        bodies.append(message.content)
        client.delete_message(message)
    return bodies


def packed(value: Any) -> Any:
    """A column as JSON with its type where JSON has none for it."""
    if isinstance(value, EntityProperty):
        return {str(EdmType(value.edm_type).value): value.value}
    if isinstance(value, datetime):
        return {"Edm.DateTime": value.isoformat()}
    return {"Edm.Binary": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def unpacked(value: Any) -> Any:
    """The column that `packed` made JSON of."""
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "Edm.DateTime":
        return datetime.fromisoformat(inner)
    return base64.b64decode(inner) if kind == "Edm.Binary" else EntityProperty(inner, EdmType(kind))


def scene(bridge: Bridge) -> dict[str, list[str]]:
    """Have something in every table; the messages that went over the queues meanwhile."""
    storage, sent = bridge.storage, {}
    one = Subscription.new(event="CallCompleted", endpoint="http://127.0.0.1:9/", secret="whsec_" + "A" * 32)
    subscriptions(bridge).make(replace(one, created=now() - timedelta(hours=1)))
    checkpoints.create(storage, checkpoints.Checkpoint(resource="calls", cursor=7, items=3, started=True))
    dead_letter(storage, kind="event", id="a", reason="a reason", body=b"{}")
    for event in EVENTS:
        if event.source == "pbx":
            accept(storage, bridge.settings, event, fixtures()[event.name])
    sent["events"] = take(storage, "events")
    for body in sent["events"]:
        consume(bridge, CONSUMERS[0], body.encode(), id="", attempt=1)
    sent["media"], sent["deliveries"] = take(storage, "media"), take(storage, "deliveries")
    health.flush(storage)
    return sent


def _packed_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: packed(value) for name, value in row.items()}


def record() -> pathlib.Path:
    """Write today's file, and say where."""
    with AzuriteProcess(accounts=1) as azurite:
        bridge = assemble(Settings.from_env(ENVIRONMENT | {"DataStorage": azurite.account(0)}))
        bridge.storage.create_all()
        messages = scene(bridge)
        rows = {
            table: [
                {name: packed(value) for name, value in row.items()}
                for row in bridge.storage.table(table).list_entities()
            ]
            for table in TABLES
        }
    GOLDEN.mkdir(exist_ok=True)
    path = GOLDEN / f"{VERSION}.json"
    path.write_text(json.dumps({"messages": messages, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    return path


if __name__ == "__main__":
    record()
