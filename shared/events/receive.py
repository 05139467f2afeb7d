"""Taking events in: checked, each under its id, and durably queued before anybody is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shared.errors import Invalid, Refused, TooLarge, answer_to
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import Event, event_id, event_named
from shared.json_bodies import LONGEST_BODY, parse_body
from shared.storage.account import reaching_storage
from shared.storage.dead_letters import dead_letter_refused
from shared.storage.deadline import within
from shared.storage.messages import send
from shared.storage.waiting import send_or_keep
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.settings import Settings
    from shared.storage.account import Storage

QUEUE = "events"
# Whoever sends waits for an answer; a refusal is kept first.
_REFUSAL_SECONDS = 3.5


def accept(storage: Storage, settings: Settings, event: Event, body: bytes) -> str:
    """
    Take one webhook's body; returns the event's id once the event is durably queued, or kept until it can be.

    Raises TooLarge over 64 KiB, NotJson, or Invalid with the fields' paths, after the body was kept as a dead
    letter, and StorageUnavailable when nothing could be kept: then the PBX has to send it again. Answers within five
    seconds, however storage fails.
    """
    with reaching_storage():
        try:
            if len(body) > LONGEST_BODY:
                raise TooLarge("the body is over 64 KiB")
            received = _event(settings, event, parse_body(body, odd_numbers=True))
        except Refused as refusal:
            title = answer_to(type(refusal)).title
            reason = f"{title}: {refusal}" if isinstance(refusal, Invalid) else title
            with within(_REFUSAL_SECONDS):
                dead_letter_refused(storage, event.name, reason, body)
            raise
        send_or_keep(storage, QUEUE, received.message(), name=received.id)
        return received.id


def submit(
    storage: Storage,
    settings: Settings,
    event: str,
    data: Mapping[str, Any],
    *,
    origin: str,
    received: datetime | None = None,
    occurrence: str | None = None,
    id: str | None = None,
) -> str:
    """
    Queue an event of our own (from a poll, a reconciliation, a stored recording); returns its id.

    `data` is what the PBX's webhook would carry; `id` is that of an event which this one repeats, where its own fields
    do not show it. Raises Invalid when it does not fit the event's model.
    """
    row = event_named(event)
    value = {"type": "Event", "eventType": row.name, "version": "v1", "data": dict(data)}
    ours = _event(settings, row, value, origin=origin, received=received, occurrence=occurrence, id=id)
    send(storage, QUEUE, ours.message(), name=ours.id)
    return ours.id


def _event(
    settings: Settings,
    event: Event,
    value: Any,
    *,
    origin: str = "webhook",
    received: datetime | None = None,
    occurrence: str | None = None,
    id: str | None = None,
) -> ReceivedEvent:
    envelope, data = check_envelope(event, value)
    if occurrence is None:
        # Whether it is a repeat is for its case to say, once it is safe on the queue.
        occurrence = "" if event.is_known_by_key(data) else uuid4().hex
    id = id or event_id(event, data, settings.default_region, occurrence)
    return ReceivedEvent(type=event, id=id, data=data, envelope=envelope, origin=origin, received=received or now())
