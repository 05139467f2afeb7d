"""Events on their way in: checked, each under its id, and queued before anybody is answered."""

from __future__ import annotations

import secrets
from base64 import b32encode
from functools import partial
from typing import TYPE_CHECKING, Any

from shared import people
from shared.errors import BODY_TOO_LARGE, Invalid, Refused
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import Event, event_id, event_named
from shared.json_bodies import LONGEST_BODY, parse_body
from shared.storage.account import reaching_storage
from shared.storage.dead_letters import dead_letter_refused
from shared.storage.messages import send
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.settings import Settings
    from shared.storage.account import Storage


def accept(storage: Storage, settings: Settings, event: Event, body: bytes) -> str:
    """
    Queue the event in one webhook's body; return its id.

    Raises Refused, after the body was kept as a dead letter, and StorageUnavailable within five seconds where nothing
    could be kept: then the PBX has to send it again.
    """
    with reaching_storage():
        try:
            if len(body) > LONGEST_BODY:
                raise Refused(BODY_TOO_LARGE)
            return _queue(storage, settings, event, parse_body(body, odd_numbers=True), origin="webhook")
        except Refused as refusal:
            title = refusal.answer.title
            reason = f"{title}: {refusal}" if isinstance(refusal, Invalid) else title
            dead_letter_refused(storage, event.name, reason, body)
            raise


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
    Queue an event of our own (of a poll, a reconciliation, a stored recording); return its id.

    `data` has the fields of the PBX's webhook; `id` is that of an event which this one repeats, where its own fields do
    not show it. Raises Invalid where the data does not fit the event's model.
    """
    value = {"type": "Event", "version": "v1", "data": dict(data)}
    more: dict[str, Any] = {"origin": origin, "received": received, "occurrence": occurrence, "id": id}
    return _queue(storage, settings, event_named(event), value, **more)


def _queue(
    storage: Storage,
    settings: Settings,
    event: Event,
    value: Any,
    *,
    origin: str,
    received: datetime | None = None,
    occurrence: str | None = None,
    id: str | None = None,
) -> str:
    envelope, data = check_envelope(event, value)
    if id is None and occurrence is None and not event.is_known_by_key(data):
        # Its pair's row tells whether it is a repeat, once it is safe on the queue.
        id = b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    id = id or event_id(event, data, settings.default_region, occurrence or "", hide=partial(people.digest, storage))
    found = ReceivedEvent(type=event, id=id, data=data, envelope=envelope, origin=origin, received=received or now())
    send(storage, "events", found.message(), name=id)
    return id
