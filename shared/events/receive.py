"""Taking events in: checked, each under its id, and durably queued before anybody is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.errors import Conflict, Invalid, Refused, TooLarge
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import Event, event_id, event_named
from shared.json_bodies import LONGEST_BODY, parse_body
from shared.storage.account import reaching_storage
from shared.storage.dead_letters import dead_letter_refused
from shared.storage.messages import send
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.events.model import Data
    from shared.settings import Settings
    from shared.storage.account import Storage

QUEUE = "events"
_TRIES = 5


def accept(storage: Storage, settings: Settings, event: Event, body: bytes) -> str:
    """
    Take one webhook's body; returns the event's id once the event is durably queued.

    Raises TooLarge over 64 KiB, NotJson, or Invalid with the fields' paths, after the body was kept as a dead
    letter, and StorageUnavailable when nothing could be kept: then the PBX has to send it again.
    """
    with reaching_storage():
        try:
            if len(body) > LONGEST_BODY:
                raise TooLarge("the body is over 64 KiB")
            envelope, data = check_envelope(event, parse_body(body))
        except Refused as refusal:
            reason = f"{refusal.title}: {refusal}" if isinstance(refusal, Invalid) else refusal.title
            dead_letter_refused(storage, event.name, reason, body)
            raise
        checked = {"type": event, "data": data, "envelope": envelope, "origin": "webhook", "received": now()}
        return _queue(storage, settings, None, **checked)


def submit(
    storage: Storage,
    settings: Settings,
    event: str,
    data: Mapping[str, Any],
    *,
    origin: str,
    received: datetime | None = None,
    occurrence: str | None = None,
) -> str:
    """
    Queue an event that we tell ourselves (a poll, a reconciliation, a stored recording); returns its id.

    `data` is what the PBX's webhook would carry. Raises Invalid when it does not fit the event's model.
    """
    row = event_named(event)
    value = {"type": "Event", "eventType": row.name, "version": "v1", "data": dict(data)}
    envelope, checked = check_envelope(row, value)
    fields = {"type": row, "data": checked, "envelope": envelope, "origin": origin, "received": received or now()}
    return _queue(storage, settings, occurrence, **fields)


def _queue(storage: Storage, settings: Settings, occurrence: str | None, **fields: Any) -> str:
    region, kind, data = settings.default_region, fields["type"], fields["data"]
    if occurrence is None:
        occurrence = _occurrence(storage, kind, data, region, fields["received"]) if kind.window else ""
    event = ReceivedEvent(id=event_id(kind, data, region, occurrence), **fields)
    send(storage, QUEUE, event.message(), name=event.id)
    return event.id


def _occurrence(storage: Storage, event: Event, data: Data, region: str, received: datetime) -> str:
    """
    Which occurrence of an event without time and id this is: the time of the first one within the window.

    The row is compared and swapped, so that two tellings at once agree.
    """
    from azure.core import MatchConditions
    from azure.core.exceptions import HttpResponseError, ResourceExistsError

    table, key = storage.table("windows"), event_id(event, data, region)
    fresh = {"PartitionKey": event.name, "RowKey": key, "since": iso(received)}
    for _ in range(_TRIES):
        try:
            table.create_entity(fresh)
            return iso(received)
        except ResourceExistsError:
            row = table.get_entity(event.name, key)
        since = parse_time(row["since"])
        if event.window and abs(received - since) <= event.window:
            return iso(since)
        try:
            table.update_entity(fresh, etag=row.metadata["etag"], match_condition=MatchConditions.IfNotModified)
            return iso(received)
        except HttpResponseError as error:
            if error.status_code != 412:
                raise
    raise Conflict("the event's window kept changing")
