"""An event on its way through the pipeline: read from a body, carried by a message, stored as a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import Invalid, Refused, Unprocessable
from shared.events.table import Event, event_named, find_event
from shared.json_bodies import encode, is_spoilt, parse_body, validated
from shared.phones import e164
from shared.storage.messages import LONGEST_IN_ROW, get_payload, is_name, put_payload
from shared.storage.rows import long
from shared.times import call_start, iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.events.model import Data
    from shared.storage.account import Storage

_TEXTS = ("type", "eventType", "version")
IDENTIFIERS = ("callID", "contactID", "previous_contactID", "recordingID", "voicemailID")
# One name for who called and who was called, under any name that the event has for them.
_CALLERS = ("caller", "callerid", "sender")
# Where the PBX's own lists are what an event comes from.
HISTORY = frozenset(("poll", "reconciled", "backfill"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedEvent:
    """An event with its id, its checked data, and the envelope as it was sent but for the event's name."""

    type: Event
    id: str
    data: Data
    envelope: Mapping[str, Any]
    origin: str
    received: datetime

    @property
    def caller(self) -> str | None:
        """Return the calling number as sent."""
        return next((value for name in _CALLERS if (value := getattr(self.data, name, None))), None)

    @property
    def moment(self) -> datetime:
        """Return when it happened, or else when we heard of it."""
        return self.data.moment or self.received

    @property
    def began(self) -> datetime:
        """Return when its call began, or else when we heard of it: that decides the month it is deleted with."""
        call_id = getattr(self.data, "callID", None)
        spelt = call_start(call_id) if isinstance(call_id, int) else None
        started = getattr(self.data, "callStarted", None)
        return spelt or (started if isinstance(started, datetime) else None) or self.received

    @property
    def from_history(self) -> bool:
        """True if it was found in the PBX's lists, which know it better than its webhook did."""
        return self.origin in HISTORY

    @property
    def drift(self) -> list[str]:
        """
        Return the names of fields that the PBX's reference does not know, or whose values do not fit it.

        `encoding` is among them where characters could not be read; the bridge's own events have none.
        """
        if self.type.source == "bridge":
            return []
        spoilt = {"encoding"} if is_spoilt(self.envelope) else set()
        odd = {name for name in _TEXTS if not isinstance(self.envelope.get(name), str | int | float | None)}
        unknown = self.envelope.keys() - {*_TEXTS, "data"}
        return sorted(self.data.drift(self.envelope["data"]) | unknown | odd | spoilt)

    def is_another_end(self, storage: Storage, row: Mapping[str, Any]) -> bool:
        """
        True if a CallCompleted is another end than the one in a row with its id: of an employee who was rung again.

        Both say a connection or a length, and these differ by more than a second. History has one end a call.
        """
        if self.type.name != "CallCompleted" or self.from_history or row["origin"] in HISTORY:
            return False
        other = self.type.model.model_validate(row_envelope(storage, row)["data"])
        for name, margin in (("callConnected", timedelta(seconds=1)), ("connectionTime", 1)):
            one, another = getattr(self.data, name), getattr(other, name)
            if one is not None and another is not None and abs(one - another) > margin:
                return True
        return False

    def message(self) -> dict[str, Any]:
        """Return the message that carries it on queue `events`."""
        return {
            "id": self.id,
            "event": self.type.name,
            "origin": self.origin,
            "received": iso(self.received),
            "body": self.envelope,
        }

    def row(self, storage: Storage, region: str) -> dict[str, Any]:
        """Return its row of tables `events` and `feed`; a long body goes to a blob, where the first one stays."""
        destination, body = getattr(self.data, "destination", None), encode(self.envelope)
        columns: dict[str, Any] = {
            "id": self.id,
            "type": self.type.name,
            "origin": self.origin,
            "received": self.received,
            "happened": self.moment,
            "began": self.began,
            "direction": getattr(self.data, "direction", None),
            "caller": self.caller,
            "callerE164": e164(self.caller, region),
            "destination": destination,
            "destinationE164": e164(destination, region),
            "drift": ",".join(self.drift)[:1000] or None,
        }
        for name in IDENTIFIERS:
            number = getattr(self.data, name, None)
            columns[name] = long(number) if number is not None else None
        if len(body) > LONGEST_IN_ROW:
            columns["payload"] = put_payload(storage, f"bodies/{self.id}", body, first=True)
        else:
            columns["body"] = body.decode()
        return {name: value for name, value in columns.items() if value is not None}


def row_envelope(storage: Storage, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the envelope in a row of `events` or `feed`; raises Unprocessable where its blob is gone."""
    body = row["body"] if "body" in row else get_payload(storage, row["payload"])
    envelope: dict[str, Any] = json.loads(body)
    return envelope


def event_of_row(storage: Storage, row: Mapping[str, Any]) -> ReceivedEvent | None:
    """Return the event in a row of `events` or `feed`; None for one of an unknown type, or whose body is gone."""
    try:
        body = row_envelope(storage, row)
        return event_of({**row, "event": row["type"], "received": iso(row["received"]), "body": body})
    except (KeyError, Unprocessable):
        return None


def event_of(message: Mapping[str, Any]) -> ReceivedEvent:
    """
    Return the event that a message of queue `events` carries; raises Unprocessable for any other message.

    Its envelope was checked when it was received, and only its data is read again.
    """
    try:
        event, envelope = event_named(message["event"]), message["body"]
        if not is_name(message["id"]):
            raise ValueError("no id of ours")
        return ReceivedEvent(
            type=event,
            id=message["id"],
            data=event.model.model_validate(envelope["data"]),
            envelope=envelope,
            origin=message["origin"],
            received=parse_time(message["received"]),
        )
    # Pydantic's error is a ValueError.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unprocessable("the message carries no event") from error


def check_envelope(event: Event, value: Any) -> tuple[dict[str, Any], Data]:
    """
    Return the envelope with the event's own name, an object as `data` and identifiers as numbers; and its checked data.

    Raises Invalid with the paths of the identifiers that are missing, or where `eventType` names another event.
    """
    envelope = _unwrapped(value, event.model)
    named = envelope.get("eventType")
    if isinstance(named, str) and named.strip() and find_event(named) is not event:
        raise Invalid({"eventType": f"this address takes {event.name}"})
    data, sent = validated(event.model, envelope["data"], at=("data",)), dict(envelope["data"])
    for name in {*IDENTIFIERS, event.key[0]} & event.model.model_fields.keys() & sent.keys():
        if type(number := getattr(data, name)) is int:
            sent[name] = number
    return {**envelope, "eventType": event.name, "data": sent}, data


def _unwrapped(value: Any, model: type[Data]) -> dict[str, Any]:
    """
    Return the envelope with an object as `data`; all other fields are as they were sent.

    An envelope may come as JSON in a text, as the only item of a list, or be left out, with the data in its place.
    Raises Invalid for anything that is wrapped deeper.
    """
    envelope = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(envelope, str) and envelope is value:
        try:
            envelope = parse_body(envelope.encode(), odd_numbers=True)
        except Refused:
            raise Invalid({"body": "an object is expected"}) from None
    if not isinstance(envelope, dict):
        raise Invalid({"body": "an object is expected"})
    data = envelope.get("data")
    if data is None and all(name in envelope for name, field in model.model_fields.items() if field.is_required()):
        data = {name: part for name, part in envelope.items() if name not in (*_TEXTS, "data")}
        envelope = {name: envelope[name] for name in _TEXTS if name in envelope}
    if not isinstance(data, dict):
        raise Invalid({"data": "an object is expected"})
    return {**envelope, "data": data}
