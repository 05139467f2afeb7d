"""An event on its way: received in a body, queued under its id, read from a message, stored as a row."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b32encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from shared import people
from shared.errors import BODY_TOO_LARGE, Invalid, Refused, Unprocessable
from shared.events.table import EVENTS, Event, Model, event_id, event_named, find_event
from shared.storage.account import Storage
from shared.storage.messages import LONGEST_IN_ROW, dead_letter, get_payload, is_name, put_payload, send
from shared.storage.rows import long
from shared.times import LONGEST_CALL, after, belongs_to_call, call_start, event_time, iso, now, parse_time
from shared.values import LARGEST_ID, LONGEST_BODY, encode, identifier, is_spoilt, parse_body, spelt

if TYPE_CHECKING:
    from shared.bridge import Bridge

_WRAPPING = ("type", "eventType", "version")
IDENTIFIERS = ("callID", "contactID", "previous_contactID", "recordingID", "voicemailID")
# The longest text that is read; a column takes 32 Ki characters.
_LONGEST_TEXT = 4000
# The origins of events that are made from the PBX's own lists.
HISTORY = frozenset(("poll", "reconciled", "backfill"))


class Data(dict[str, Any]):
    """
    The readable fields of an event's data by their names on the wire, and unknown fields as they were sent.

    `""` and null mean absent. `misfits` has the fields that do not fit, as they were sent: they count as absent.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(fields)
        self.misfits: dict[str, Any] = {}
        # The event's own time.
        self.moment: datetime | None = None


def seconds(value: Any) -> int | None:
    """Return a call's length in seconds, or None for a value that is no length or longer than any call."""
    number = identifier(value)
    return number if number is not None and number <= LONGEST_CALL.total_seconds() else None


def talk_seconds(record: Mapping[str, Any]) -> int | None:
    """Return the seconds from `callConnected` to `callEnded`, or None if a record lacks one of them."""
    begin, end = event_time(record.get("callConnected")), event_time(record.get("callEnded"))
    return seconds(int((end - begin).total_seconds())) if begin and end else None


def _integer(value: Any) -> int | None:
    return value if type(value) is int and -LARGEST_ID <= value <= LARGEST_ID else identifier(value)


def _text(value: Any) -> str | None:
    text = spelt(value)
    return text if text is not None and len(text) <= _LONGEST_TEXT else None


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "string": _text,
    "date-time": event_time,
    "boolean": lambda value: value if isinstance(value, bool) else None,
    "array": lambda value: value if isinstance(value, list | dict) else None,
    "object": lambda value: value if isinstance(value, dict) else None,
}
_EXPECTED = {"integer": f"a whole number from 0 to {LARGEST_ID}", "string": "a text", "date-time": "a time"}


def _reader(name: str, kind: str) -> Callable[[Any], Any]:
    if name in ("connectionTime", "length"):
        return seconds
    return identifier if kind == "integer" and name.lower().endswith("id") else _READERS[kind]


# A field that is known from one event is read the same way in all others.
_TYPES = {known.name: known.type for event in EVENTS for known in event.model.fields}
_READ = {name: _reader(name, kind) for name, kind in _TYPES.items()}


def read_data(model: Model, sent: Mapping[str, Any]) -> Data:
    """Return the data of an event; raise Invalid with the paths of required fields that are missing or do not fit."""
    data = Data()
    for name, value in sent.items():
        if value is not None and not (isinstance(value, str) and not value.strip()):
            read = _READ[name](value) if name in _READ else value
            if read is None:
                data.misfits[name] = value
            else:
                data[name] = read
    starts = data.get("callStarted"), call_start(data.get("callID", 0))
    for name in ("callConnected", "callEnded"):
        if name in data and not belongs_to_call(data[name], starts):
            data.misfits[name] = sent[name]
            del data[name]
    wrong = {}
    for name in model.required:
        is_withheld = name in ("callerid", "destination") and name in sent and name not in data.misfits
        if name not in data and not is_withheld:
            wrong[f"data.{name}"] = f"{_EXPECTED[_TYPES[name]]} is expected" if name in sent else "it is required"
    if wrong:
        raise Invalid(wrong)
    data.moment = data.get(model.moment or "")
    if model.moment == "callEnded" and not data.moment and "callConnected" in data and "connectionTime" in data:
        data.moment = after(data["callConnected"], data["connectionTime"])
    return data


@dataclass(frozen=True, kw_only=True)
class ReceivedEvent:
    """An event with its id, its data, the envelope as it was sent but for the event's name, and its row."""

    type: Event
    id: str
    data: Data
    envelope: Mapping[str, Any]
    origin: str
    received: datetime
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def caller(self) -> str | None:
        """Return the calling number as sent, under any name that the event has for it."""
        return self.data.get("caller") or self.data.get("callerid") or self.data.get("sender")

    @property
    def moment(self) -> datetime:
        """Return when the event happened, or else when it arrived."""
        return self.data.moment or self.received

    @property
    def began(self) -> datetime:
        """Return when its call began, or else when it arrived: retention goes by this time."""
        return call_start(self.data.get("callID", 0)) or self.data.get("callStarted") or self.received

    @property
    def from_history(self) -> bool:
        """True if the event was made from the PBX's lists, whose values take precedence over a webhook's."""
        return self.origin in HISTORY

    @cached_property
    def drift(self) -> list[str]:
        """
        Return the names of fields that the PBX's reference does not know, or whose values do not fit it.

        `encoding` is among them if characters could not be read. The bridge's own events have none.
        """
        if self.type.source == "bridge":
            return []
        odd = (self.data.keys() - {field.name for field in self.type.model.fields}) | self.data.misfits.keys()
        for name, value in self.envelope.items():
            if name != "data" and (name not in _WRAPPING or isinstance(value, list | dict)):
                odd.add(name)
        return sorted(odd | {"encoding"} if is_spoilt(self.envelope) else odd)

    def is_another_end(self, storage: Storage) -> bool:
        """
        Return True if a CallCompleted is a further end of an employee who was rung again; `row` has the earlier end.

        Both ends have a connection or a length that differs by more than a second. History has one end a call.
        """
        if self.type.name != "CallCompleted" or self.from_history or self.row["origin"] in HISTORY:
            return False
        other = read_data(self.type.model, row_envelope(storage, self.row)["data"])
        return any(
            name in self.data and name in other and abs(self.data[name] - other[name]) > margin
            for name, margin in (("callConnected", timedelta(seconds=1)), ("connectionTime", 1))
        )


def accept(bridge: Bridge, event: Event, body: bytes) -> str:
    """
    Queue the event in one webhook's body; return its id.

    Raises Refused once the body is kept as a dead letter. Raises StorageUnavailable within five seconds if nothing
    could be kept: then the PBX has to send it again.
    """
    try:
        if len(body) > LONGEST_BODY:
            raise Refused(BODY_TOO_LARGE)
        return _queue(bridge, event, parse_body(body, odd_numbers=True), origin="webhook")
    except Refused as refusal:
        title = refusal.answer.title
        reason = f"{title}: {refusal}" if isinstance(refusal, Invalid) else title
        name = f"{event.name}-{hashlib.sha256(body).hexdigest()[:32]}"
        dead_letter(bridge.storage, kind="refused", id=name, reason=reason, body=body)
        raise


def submit(
    bridge: Bridge, event: str, data: Mapping[str, Any], *, origin: str, occurrence: str = "", id: str | None = None
) -> str:
    """
    Queue an event of our own (of a poll, a reconciliation, a stored recording); return its id.

    `data` has the fields of the PBX's webhook. `id` is that of the event which this one repeats, if its fields do not
    show it. Raises Invalid if the data does not fit the event's model.
    """
    value = {"type": "Event", "version": "v1", "data": data}
    return _queue(bridge, event_named(event), value, origin=origin, occurrence=occurrence, id=id)


def _queue(
    bridge: Bridge, event: Event, value: Any, *, origin: str, occurrence: str = "", id: str | None = None
) -> str:
    envelope, data = check_envelope(event, value)
    if not id and not occurrence and event.waits and data.moment is None:
        # The processor finds by the row of its pair whether it is a repeat.
        id = b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    hide = partial(people.digest, bridge.storage)
    id = id or event_id(event, data, bridge.settings.default_region, occurrence, hide=hide)
    message = {"id": id, "event": event.name, "origin": origin, "received": iso(now()), "body": envelope}
    send(bridge.storage, "events", message, name=id)
    return id


def check_envelope(event: Event, value: Any) -> tuple[dict[str, Any], Data]:
    """
    Return the envelope with the event's own name, an object as `data` and identifiers as numbers; and the data, read.

    An envelope may be JSON in a text, the only item of a list, or the bare data. Raises Invalid for deeper wrapping,
    for missing identifiers, with their paths, and if `eventType` names another event.
    """
    envelope = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, str):
        try:
            envelope = parse_body(value.encode(), odd_numbers=True)
        except Refused:
            raise Invalid({"body": "an object is expected"}) from None
    if not isinstance(envelope, dict):
        raise Invalid({"body": "an object is expected"})
    sent = envelope.get("data")
    if sent is None and all(name in envelope for name in event.model.required):
        sent = {name: part for name, part in envelope.items() if name not in (*_WRAPPING, "data")}
        envelope = {name: envelope[name] for name in _WRAPPING if name in envelope}
    if not isinstance(sent, dict):
        raise Invalid({"data": "an object is expected"})
    named = envelope.get("eventType")
    if isinstance(named, str) and named.strip() and find_event(named) is not event:
        raise Invalid({"eventType": f"this address accepts {event.name} only"})
    data, sent = read_data(event.model, sent), dict(sent)
    for known in event.model.fields:
        if known.name in (*IDENTIFIERS, event.key[0]) and type(number := data.get(known.name)) is int:
            sent[known.name] = number
    return {**envelope, "eventType": event.name, "data": sent}, data


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
            data=read_data(event.model, envelope["data"]),
            envelope=envelope,
            origin=message["origin"],
            received=parse_time(message["received"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, Invalid) as error:
        raise Unprocessable("the message carries no event") from error


def row_of(storage: Storage, event: ReceivedEvent) -> dict[str, Any]:
    """Return the row of an event in `events` and `feed`; a long body goes to a blob, which is never replaced."""
    body = encode(event.envelope)
    columns: dict[str, Any] = {
        "id": event.id,
        "type": event.type.name,
        "origin": event.origin,
        "received": event.received,
        "happened": event.moment,
        "began": event.began,
        "caller": event.caller,
        "destination": event.data.get("destination"),
        "drift": ",".join(event.drift)[:1000] or None,
    }
    for name in IDENTIFIERS:
        if name in event.data:
            columns[name] = long(event.data[name])
    if len(body) > LONGEST_IN_ROW:
        columns["payload"] = put_payload(storage, f"bodies/{event.id}", body, first=True)
    else:
        columns["body"] = body.decode()
    return {name: value for name, value in columns.items() if value is not None}


def row_envelope(storage: Storage, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the envelope in a row of `events` or `feed`; raises Unprocessable if its blob is gone."""
    body = row["body"] if "body" in row else get_payload(storage, row["payload"])
    return dict(json.loads(body))


def event_of_row(storage: Storage, row: Mapping[str, Any]) -> ReceivedEvent | None:
    """Return the event in a row of `events` or `feed`; None if its type is unknown or its body is gone."""
    try:
        body = row_envelope(storage, row)
        return event_of({**row, "event": row["type"], "received": iso(row["received"]), "body": body})
    except (KeyError, Unprocessable):
        return None
