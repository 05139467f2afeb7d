"""Webhooks that never came, made good from what was polled."""

from __future__ import annotations

import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypedDict

from shared import health
from shared.calls.store import calls
from shared.errors import Invalid
from shared.events import store as events
from shared.events.receive import submit
from shared.events.table import event_id, event_named
from shared.items import reader as items
from shared.items.head import TABLE
from shared.items.intake import PENDING
from shared.json_bodies import encode
from shared.pbx.operations import operation
from shared.pbx.resources import resource
from shared.storage.account import reaching_storage
from shared.storage.dead_letters import dead_letter
from shared.times import MICROSECONDS_PER_SECOND, now
from shared.webhooks.table import ended_since, wanted_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.calls.stories import Part
    from shared.items.reader import Item
    from shared.pbx.resources import Resource

    Told = tuple[str, dict[str, Any]]
    Missing = Callable[[Bridge, int, Item], list[Told]]

    class DeadLetter(TypedDict):
        """What `dead_letter` takes."""

        kind: str
        id: str
        reason: str
        body: bytes


logger = logging.getLogger(__name__)

# What one run takes on for each resource; the next goes on.
_MOST_MARKS = 200
_WORKERS = 8


def reconcile(bridge: Bridge, *, at: datetime | None = None) -> int:
    """
    Submit the events of polled calls, recordings and voicemails whose webhook has not come within the grace.

    What is missing goes through the pipeline as that webhook's event, under the id that the webhook would have
    had: a late one changes nothing. Returns how many events were submitted. Raises StorageUnavailable; the next
    run goes on.
    """
    moment = at or now()
    with reaching_storage():
        return sum(_reconcile(bridge, resource(name), missing, moment) for name, missing in _MISSING.items())


def _reconcile(bridge: Bridge, row: Resource, missing: Missing, moment: datetime) -> int:
    wanted = {event.name for event in wanted_events(bridge.settings)}
    submitted = restored = 0
    for mark in _due(bridge, row, moment):
        origin = "backfill" if mark.get("backfill") else "reconciled"
        ids = json.loads(mark["ids"])

        def settle(number: int, origin: str = origin) -> list[DeadLetter | None]:
            item = items.stored(bridge.storage, row.name, number) or {}
            told = [(name, data) for name, data in missing(bridge, number, item) if name in wanted]
            return [_submit(bridge, name, data, origin) for name, data in told]

        with ThreadPoolExecutor(_WORKERS if len(ids) > _WORKERS else 1) as pool:
            settled = list(chain.from_iterable(pool.map(settle, ids)))
        for letter in filter(None, settled):
            # Here: the host drops what threads log that it does not know.
            dead_letter(bridge.storage, **letter)
        count = len(settled)
        submitted += count
        restored += count if origin == "reconciled" else 0
        bridge.storage.table(TABLE).delete_entity(row.name, mark["RowKey"])
    # Without an address for them, or after their end, there are no webhooks to lose.
    if restored and bridge.settings.public_base_url and not ended_since(bridge.storage):
        logger.warning("signal webhook_loss resource=%s events=%d", row.name, restored)
    return submitted


def _due(bridge: Bridge, row: Resource, moment: datetime) -> list[Mapping[str, Any]]:
    last = f"{PENDING}{int(moment.timestamp() * MICROSECONDS_PER_SECOND):020d}~"
    query = f"PartitionKey eq '{row.name}' and RowKey ge '{PENDING}' and RowKey lt '{last}'"
    return list(islice(bridge.storage.table(TABLE).query_entities(query), _MOST_MARKS))


def _submit(bridge: Bridge, name: str, data: Mapping[str, Any], origin: str) -> DeadLetter | None:
    try:
        submit(bridge.storage, bridge.settings, name, data, origin=origin)
    except Invalid as error:
        body = encode({"eventType": name, "data": dict(data)})
        key = f"{name}-{hashlib.sha256(body).hexdigest()[:32]}"
        return {"kind": "polled", "id": key, "reason": str(error), "body": body}
    return None


def _missing_of_call(bridge: Bridge, number: int, item: Item) -> list[Told]:
    """
    What the call's story lacks: its end, and whatever led to it; once that has come, only the losses are counted.

    A call that was answered ends once, and one that nobody answered for each one it rang. Ids alone would not do:
    history may name another employee than the webhook did.
    """
    parts = calls(bridge.storage, bridge.settings.default_region).parts(number)
    names = {part["event"] for part in parts}
    answered = bool(item.get("callConnected")) or "CallConnected" in names
    led = [name for name in ("CallStarted", "CallConnected") if name == "CallStarted" or answered]
    rung, ended = _contacts(parts, "CallStarted"), _contacts(parts, "CallCompleted")
    end = _as_event(item, "call_history", "CallCompleted")
    if "CallCompleted" in names:
        for name in led:
            if name not in names:
                health.missed(bridge.storage, name)
        return [("CallCompleted", {**end, "contactID": one}) for one in sorted(rung - ended) if ended and not answered]
    told = [(name, _as_event(item, "call_history", name)) for name in led if name not in names]
    own = {_number(item["contactID"])} if item.get("contactID") else set()
    contacts = sorted(own if answered else rung | own, key=str) or [None]
    return told + [("CallCompleted", {**end, "contactID": contact}) for contact in contacts]


def _contacts(parts: Iterable[Part], event: str) -> set[Any]:
    return {part["contactID"] for part in parts if part["event"] == event and "contactID" in part}


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


def _missing_event(bridge: Bridge, number: int, item: Item, *, name: str, source: str) -> list[Told]:
    """The event of an item that is announced once, unless it is there."""
    from azure.core.exceptions import ResourceNotFoundError

    event, data = event_named(name), _as_event(item, source, name)
    identifier = event_id(event, event.model.model_construct(None, **{event.key[0]: number}), "")
    try:
        bridge.storage.table(events.TABLE).get_entity(events.PARTITION, identifier, select=["RowKey"])
    except ResourceNotFoundError:
        return [(name, data)]
    return []


def _as_event(item: Item, source: str, name: str) -> dict[str, Any]:
    """The item as the webhook tells it: without what only lists have, and with what nobody knows."""
    told = event_named(name).model.model_fields
    listed = {field.name for field in operation(resource(source).read_operation).item}
    return {field: value for field, value in item.items() if field in told or field not in listed}


_MISSING: Mapping[str, Missing] = {
    "call_history": _missing_of_call,
    "call_records": partial(_missing_event, name="CallRecorded", source="call_records"),
    "voicemails": partial(_missing_event, name="VoicemailCreated", source="voicemails"),
}
