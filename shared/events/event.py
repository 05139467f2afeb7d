"""An event on its way through the pipeline: read from what was sent, carried by a message, kept as a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import Invalid, NotJson, Unprocessable
from shared.events.table import Event, event_named, find_event
from shared.json_bodies import encode, is_spoilt, parse_body, validated
from shared.phones import e164
from shared.storage.messages import LONGEST_IN_ROW, get_payload, is_name, put_payload
from shared.storage.rows import long
from shared.times import call_start, iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.events.data import Data
    from shared.storage.account import Storage

_TEXTS = ("type", "eventType", "version")
# An envelope in an envelope in a list, each as text: no sender wraps deeper by mistake.
_DEEPEST = 6
IDENTIFIERS = ("callID", "contactID", "previous_contactID", "recordingID", "voicemailID")
# One name for who called and who was called, under any name that the event has for them.
_CALLERS = ("caller", "callerid", "sender")
# Where the PBX's own lists are what an event comes from.
HISTORY = frozenset(("poll", "reconciled", "backfill"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedEvent:
    """One event with its id, its checked data, and the envelope as it was sent but for the event's name."""

    type: Event
    id: str
    data: Data
    envelope: Mapping[str, Any]
    origin: str
    received: datetime

    @property
    def caller(self) -> str | None:
        """The calling number as sent."""
        return next((value for name in _CALLERS if (value := getattr(self.data, name, None))), None)

    @property
    def moment(self) -> datetime:
        """When it happened, or when we heard of it."""
        return self.data.moment or self.received

    @property
    def began(self) -> datetime:
        """When its call began, else when we heard of it: the time that decides the month it goes with."""
        call_id = getattr(self.data, "callID", None)
        spelt = call_start(call_id) if isinstance(call_id, int) else None
        started = getattr(self.data, "callStarted", None)
        return spelt or (started if isinstance(started, datetime) else None) or self.received

    @property
    def from_history(self) -> bool:
        """Whether it was found in the PBX's lists, which know it better than its webhook did."""
        return self.origin in HISTORY

    @property
    def drift(self) -> list[str]:
        """
        Names of the fields that the PBX's reference does not know, or that do not fit what it says of them.

        `encoding` is among them where characters could not be read; none where the bridge itself speaks.
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
        other = check_envelope(self.type, row_envelope(storage, row))[1]

        def differ(name: str, margin: Any) -> bool:
            one: Any = getattr(self.data, name, None)
            another: Any = getattr(other, name, None)
            return one is not None and another is not None and abs(one - another) > margin

        return differ("callConnected", timedelta(seconds=1)) or differ("connectionTime", 1)

    def message(self) -> dict[str, Any]:
        """The message that carries it on queue `events`."""
        return {
            "id": self.id,
            "event": self.type.name,
            "origin": self.origin,
            "received": iso(self.received),
            "body": self.envelope,
        }

    def row(self, storage: Storage, region: str) -> dict[str, Any]:
        """Its row in tables `events` and `feed`; a long body goes to a blob, which keeps the first one."""
        columns, body = self.columns(region), encode(self.envelope)
        if len(body) > LONGEST_IN_ROW:
            return {**columns, "payload": put_payload(storage, f"bodies/{self.id}", body, first=True)}
        return {**columns, "body": body.decode()}

    def columns(self, region: str) -> dict[str, Any]:
        """What its row says beside the body."""
        destination = getattr(self.data, "destination", None)
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
        ids = {name: number for name in IDENTIFIERS if (number := getattr(self.data, name, None)) is not None}
        columns |= {name: long(number) for name, number in ids.items()}
        return {name: value for name, value in columns.items() if value is not None}


def row_envelope(storage: Storage, row: Mapping[str, Any]) -> dict[str, Any]:
    """The envelope that a row of `events` or `feed` keeps."""
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


def check_envelope(event: Event, value: Any) -> tuple[dict[str, Any], Data]:
    """
    The envelope with the event's own name, an object as `data` and numbers as identifiers; and its checked data.

    Raises Invalid with the paths of the fields that are missing: what identifies the event, and nothing else; or when
    `eventType` names another event.
    """
    envelope = _read_envelope(value, event.model)
    named = envelope.get("eventType")
    if isinstance(named, str) and named.strip() and find_event(named) is not event:
        raise Invalid({"eventType": f"this address takes {event.name}"})
    data = validated(event.model, envelope["data"], at=("data",))
    own = {*IDENTIFIERS, event.key[0]} & event.model.model_fields.keys() & envelope["data"].keys()
    ids = {name: number for name in own if type(number := getattr(data, name)) is int}
    return {**envelope, "eventType": event.name, "data": {**envelope["data"], **ids}}, data


def event_of(message: Mapping[str, Any]) -> ReceivedEvent:
    """The event that a message on queue `events` carries; raises Unprocessable when it is none of ours."""
    try:
        event = event_named(message["event"])
        envelope, data = check_envelope(event, message["body"])
        received = parse_time(message["received"])
        if not is_name(message["id"]):
            raise ValueError("no id of ours")
        return ReceivedEvent(
            type=event, id=message["id"], data=data, envelope=envelope, origin=message["origin"], received=received
        )
    except (KeyError, TypeError, ValueError, AttributeError, Invalid) as error:
        raise Unprocessable("the message carries no event") from error


def _read_envelope(value: Any, model: type[Data]) -> dict[str, Any]:
    """
    The envelope with an object as `data`, however it is wrapped; all other fields are as they were sent.

    An envelope or its data may come as JSON in a text, as the only item of a list, or once more inside `data`; the
    data may also stand in the envelope's place. Raises Invalid where there is no object.
    """
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    envelope = _object(value)
    if envelope is None:
        raise Invalid({"body": "an object is expected"})
    if envelope.get("data") is None and required <= envelope.keys():
        texts = {name: envelope[name] for name in _TEXTS if name in envelope}
        envelope = texts | {"data": {name: part for name, part in envelope.items() if name not in texts}}
    data = _object(envelope.get("data"))
    for _ in range(_DEEPEST):
        if data is None or required <= data.keys() or "data" not in data:
            break
        # Once more around itself: what the inner envelope says of the event counts where the outer one is silent.
        envelope = {**{name: data[name] for name in _TEXTS if name in data}, **envelope}
        data = _object(data["data"])
    if data is None:
        raise Invalid({"data": "an object is expected"})
    return {**envelope, "data": data}


def _object(value: Any) -> dict[str, Any] | None:
    for _ in range(_DEEPEST):
        if isinstance(value, dict):
            return value
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, str):
            try:
                value = parse_body(value.encode(), odd_numbers=True)
            except NotJson:
                return None
        else:
            return None
    return None
