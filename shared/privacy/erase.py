"""Erases a phone number: everything that storage holds of it from before a moment, and nothing of it comes back."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared import audit, people
from shared.calls import lost_callers
from shared.errors import Unprocessable
from shared.events.store import PARTITION as EVENT
from shared.privacy.holdings import EXPORTS, RESOURCES, Spellings, pointed, scanned
from shared.storage.account import POISON, QUEUES
from shared.storage.expiry import delete_keys, delete_versions
from shared.storage.messages import PAYLOADS, delete_payload, get_payload, parse, read
from shared.subscriptions.store import subscriptions
from shared.times import event_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from azure.storage.queue import QueueClient, QueueMessage

    from shared.bridge import Bridge
    from shared.privacy.holdings import Holdings
    from shared.storage.account import Storage

# The names of rows in a receipt, by table or by resource; all else are others.
_NAMES = {"calls": "calls", "feed": "events", "lostcallers": "lostCallers", "dials": "dials"}
_NAMES |= {"deadletters": "deadLetters", **dict.fromkeys(RESOURCES.values(), "items")}
_HIDDEN_SECONDS = 30
_PEEK = 32
_IMMUTABLE = 409


def erase(bridge: Bridge, number: str, until: datetime, held: set[str]) -> Counter[str]:
    """
    Erase a number once, and return what was erased by kind; a second time finds what came while the first one ran.

    Names of blobs that a policy or a legal hold keeps are added to `held`. `listed` counts what the PBX still lists,
    and `softDeletedDays` are those for which the account keeps deleted audio.
    Raises Invalid and StorageUnavailable.
    """
    storage, region = bridge.storage, bridge.settings.default_region
    spellings = Spellings(number, region)
    people.forget(storage, [people.number(spellings.number, region)], until)
    counts: Counter[str] = Counter()
    for holdings in pointed(storage, spellings, region, until):
        _erase(storage, holdings, until, held, counts)
    _erase(storage, scanned(storage, spellings, until), until, held, counts)
    _erase_others(bridge, spellings, until, counts)
    return +counts


def _erase(storage: Storage, holdings: Holdings, until: datetime, held: set[str], counts: Counter[str]) -> None:
    """Erase audio, rows and their bodies; the pointers go last, so that a death in between leaves the rest found."""
    things = [people.call(id) for id in holdings.calls] + [f"{kind} {id}" for kind, id in holdings.audio]
    if things:
        people.forget(storage, things, until)
    for container, stem in sorted(holdings.stems):
        _erase_audio(storage, container, stem, held, counts)
    for (table, partition, key), row in holdings.rows.items():
        if table == "resources" and partition not in RESOURCES.values() and not row.get("removed"):
            counts["listed"] += 1
            continue
        if row.get("payload"):
            delete_versions(storage.container(PAYLOADS), str(row["payload"]))
        if table == "feed":
            delete_keys(storage.table("events"), [{"PartitionKey": EVENT, "RowKey": row["id"]}])
        if table == lost_callers.TABLE:
            lost_callers.remove(storage, key)
        else:
            delete_keys(storage.table(table), [{"PartitionKey": partition, "RowKey": key}])
        counts[_NAMES.get(table) or _NAMES.get(partition, "others")] += 1
    people.remove(storage, holdings.pointers)


def _erase_audio(storage: Storage, container: str, stem: str, held: set[str], counts: Counter[str]) -> None:
    from azure.core.exceptions import HttpResponseError

    client = storage.container(container)
    try:
        deleted = delete_versions(client, stem)
    except HttpResponseError as error:
        if error.status_code != _IMMUTABLE:
            raise
        # A policy or a legal hold keeps it; nothing else is kept back for its sake.
        held.add(f"{container}/{stem.rstrip('.')}")
        return
    if deleted and not counts["softDeletedDays"]:
        left = client.list_blobs(name_starts_with=stem, include=["deleted", "versions"])
        counts["softDeletedDays"] = max((blob.remaining_retention_days or 0 for blob in left), default=0)
    counts["audio"] += deleted


def _erase_others(bridge: Bridge, spellings: Spellings, until: datetime, counts: Counter[str]) -> None:
    """Erase messages, subscriptions for the number, notes of the audit, and all exports made before."""
    storage, payloads = bridge.storage, bridge.storage.container(PAYLOADS)
    for name in QUEUES:
        for suffix in ("", POISON):
            counts["messages"] += _erase_messages(storage, storage.queue(name + suffix), spellings, until)
        # The bodies of messages that wait, which no queue shows; without its body one is dropped once it is due.
        for blob in payloads.list_blob_names(name_starts_with=f"{name}/"):
            with suppress(Unprocessable):
                if _is_about(parse(get_payload(storage, blob)), spellings, until):
                    counts["messages"] += delete_versions(payloads, blob)
    known = subscriptions(bridge)
    for one in known.all():
        if any(isinstance(value, str) and spellings.are_in(value) for value in one.wanted.values()):
            counts["subscriptions"] += known.end(one.id)
    counts["notes"] += audit.clear_notes(storage, spellings.are_in)
    counts["exports"] += delete_versions(storage.container(EXPORTS), "")


def _erase_messages(storage: Storage, queue: QueueClient, spellings: Spellings, until: datetime) -> int:
    """Delete the visible messages with the number; a queue without one is only peeked at, as it counts deliveries."""

    def has(message: QueueMessage) -> bool:
        try:
            return _is_about(read(storage, _body(message)), spellings, until)
        except Unprocessable:
            return spellings.are_in(_body(message).decode(errors="replace"))

    seen = queue.peek_messages(max_messages=_PEEK)
    waiting = queue.get_queue_properties().approximate_message_count or 0
    if waiting <= len(seen) and not any(map(has, seen)):
        return 0
    deleted, others = 0, []
    for message in queue.receive_messages(messages_per_page=_PEEK, visibility_timeout=_HIDDEN_SECONDS):
        if has(message):
            delete_payload(storage, _body(message))
            queue.delete_message(message)
            deleted += 1
        else:
            others.append(message)
    for message in others:
        queue.update_message(message, visibility_timeout=0)
    return deleted


def _is_about(message: Mapping[str, Any], spellings: Spellings, until: datetime) -> bool:
    """Return True if a message has the number, and its call began, or it was sent, before the erasure."""
    body, record = message.get("body"), message.get("record")
    data = body.get("data") if isinstance(body, dict) else record
    started = data.get("callStarted") if isinstance(data, dict) else None
    began = event_time(started) or event_time(message.get("sent")) or until
    return began <= until and spellings.are_in(json.dumps(message))


def _body(message: QueueMessage) -> bytes:
    content: Any = message.content
    return content if isinstance(content, bytes) else str(content).encode()
