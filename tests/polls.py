"""A bridge on a simulated PBX, and helpers that run and read the pipeline behind its polls."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from dev.simulator import Simulator
from shared.bridge import Bridge
from shared.items.store import TABLE
from shared.pbx.budget import Budget
from shared.pbx.client import Pbx
from shared.pbx.resources import RESOURCES, resource
from shared.pipeline.process import process
from shared.settings import Settings
from shared.storage.account import Storage
from shared.storage.messages import read

CALLS = resource("call_history")
RECORDINGS = resource("call_records")
VOICEMAILS = resource("voicemails")
CONTACTS = resource("contacts")


class NoBudget(Budget):
    """Allows all calls without storage, so that a test counts only its own requests."""

    def take(self, lane: str, *, until: float | None = None) -> None:
        """Return at once."""


def bridge_to(simulator: Simulator, settings: Settings, **changes: Any) -> Bridge:
    """Return the bridge of a new process: the same storage, nothing in memory, and no pauses of the PBX's client."""
    settings = replace(settings, pbx_base_url=simulator.base_url, pbx_api_key=simulator.api_key, **changes)
    storage = Storage(settings.storage)
    budget = NoBudget(storage, "unlimited")
    pbx = Pbx(settings, budget, pause=lambda seconds: None)
    return Bridge(settings=settings, storage=storage, pbx=pbx)


def queued(storage: Storage) -> list[dict[str, Any]]:
    """Receive and delete the messages on queue `events`."""
    client, found = storage.queue("events"), []
    for message in client.receive_messages(messages_per_page=32):
        found.append(read(storage, message.content.encode()))
        client.delete_message(message)
    return found


def run_pipeline(bridge: Bridge) -> list[dict[str, Any]]:
    """Process the messages on queue `events` and return them."""
    found = queued(bridge.storage)
    for message in found:
        process(bridge, message)
    return found


def submitted(storage: Storage) -> list[tuple[str, int]]:
    """Return the name and the item's id of each submitted event, once for each event id."""
    messages = {message["id"]: message for message in queued(storage)}
    return sorted((message["event"], _id(message["body"]["data"])) for message in messages.values())


def _id(data: dict[str, Any]) -> int:
    return next(int(data[name]) for name in data if name in _IDS)


_IDS = {row.id_field for row in RESOURCES}


def stored_ids(storage: Storage, name: str) -> list[int]:
    """Return the ids of the stored rows."""
    rows = storage.table(TABLE).query_entities(f"PartitionKey eq '{name}' and RowKey lt ':'")
    return sorted(row["id"].value for row in rows if not row["removed"])


def arrived_ids(storage: Storage, name: str) -> list[int]:
    """Return the ids in the arrival rows; an id that was stored twice is there twice."""
    rows = storage.table(TABLE).query_entities(f"PartitionKey eq '{name}' and RowKey ge 'a' and RowKey lt 'b'")
    return sorted(number for row in rows for number in json.loads(row["ids"]))
