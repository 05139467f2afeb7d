"""The table of events, with their models and ids, that every other part reads."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from shared.errors import ConfigError, redact
from shared.pbx.fields import CALL, LOST_CALL, RECORDING, VOICEMAIL, Field, Shape
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES, Resource
from shared.times import iso
from shared.values import e164

if TYPE_CHECKING:
    from shared.events.event import Data


@dataclass(frozen=True, slots=True)
class Model:
    """
    The data of an event: its name in the definition, its fields, the required ones, and the one with the event's time.

    A required phone number may be empty: then it is withheld.
    """

    name: str
    fields: Shape
    required: tuple[str, ...]
    moment: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """
    A row: an event's name on the wire, the model of its data, and the fields that identify its repeats.

    `moment` in a key is the event's own time. `waits` marks the events of lost callers, which can happen again under
    the same key without a time of their own. `announces` and `withdraws` name the media row that the event is about.
    `source` sends it first: the PBX by webhook, our polls, or the bridge itself.
    """

    name: str
    model: Model
    key: tuple[str, ...]
    description: str
    aliases: tuple[str, ...] = ()
    waits: bool = False
    announces: str | None = None
    withdraws: str | None = None
    source: Literal["pbx", "poll", "bridge"] = "pbx"


# The fields that events share with the PBX's lists, and their own.
_FIELDS = {field.name: field for shape in (VOICEMAIL, LOST_CALL, CALL, RECORDING) for field in shape}
_FIELDS["previous_contactID"] = Field(
    "previous_contactID", "integer", "Unique ID of the employee who handed the call over."
)
_STORED = (
    Field("blobUrl", "string", "Address of the audio in Blob Storage."),
    Field("container", "string", "Container that the audio is in."),
    Field("blobName", "string", "Name of the audio's blob in its container."),
    Field("sha256", "string", "SHA-256 of the audio in hexadecimal digits."),
    Field("size", "integer", "Size of the audio in bytes."),
    Field("contentType", "string", "Kind of audio, such as audio/mpeg."),
    Field("storedAt", "date-time", "Time the audio was stored."),
    Field("incomplete", "boolean", "True if some of the audio is missing; it may follow."),
)
STORED_AUDIO = tuple(field.name for field in _STORED)
_SUBSCRIPTION = (
    Field("subscriptionID", "string", "ID of the subscription, as in lists and logs."),
    Field("name", "string", "Name of the subscription."),
    Field("event", "string", "Event that the subscription is for."),
    Field("host", "string", "Host that events are posted to."),
    Field("answer", "string", "HTTP status by which the subscriber ended it."),
    Field("since", "date-time", "Time its state changed."),
)


def _fields(*names: str) -> Shape:
    return tuple(_FIELDS[name] for name in names)


_RINGING = _fields("callID", "caller", "destination", "direction", "status", "callStarted", "contactID")
_TALKING = (*_RINGING, *_fields("callConnected"))
# Only the history has the end; a reconciled event carries it.
_TALKED = (*_TALKING, *_fields("connectionTime", "previous_contactID", "callEnded"))
_PAIR = ("destination", "callerid")
_CALL_STARTED = Model("Call", _RINGING, ("callID",), "callStarted")
_CALL_CONNECTED = Model("ConnectedCall", _TALKING, ("callID",), "callConnected")
_CALL_COMPLETED = Model("CompletedCall", _TALKED, ("callID",), "callEnded")
_RECORDED = Model(
    "Recording",
    _fields("recordingID", "callID", "callStarted", "recordingURL", "direction", "connectionTime"),
    ("recordingID",),
)
_LOST_CALL = Model("LostCall", _fields(*_PAIR, "contact_name", "attempts", "last_contact"), _PAIR, "last_contact")
_LOST_CALLER = Model("LostCaller", _fields(*_PAIR), _PAIR)
_LEFT = Model("Voicemail", VOICEMAIL, ("voicemailID",), "callStarted")
_DELETED = Model("DeletedVoicemail", _fields("voicemailID", "sender"), ("voicemailID",))
_STATE = Model("SubscriptionState", _SUBSCRIPTION, ("subscriptionID", "event", "since"), "since")


def _stored(name: str, item: Shape, url: str, *more: str) -> Model:
    """Return the model of stored audio: the fields of its item but the PBX's address, and those of its blob."""
    fields = (*(field for field in item if field.name != url), *_fields(*more), *_STORED)
    return Model(name, fields, (item[0].name, *STORED_AUDIO[:-1]), "storedAt")


def _polled(row: Resource) -> list[Event]:
    model = Model(row.noun, operation(row.read_operation).item, (row.id_field,))
    noun = re.sub("(?<=[a-z])(?=[A-Z])", " ", row.noun).capitalize()
    return [
        Event(f"{row.noun}{happening}", model, (row.id_field,), f"{noun} {words} the PBX.", source="poll")
        for happening, words in (("Created", "added to"), ("Updated", "changed in"), ("Removed", "removed from"))
    ]


_ours = partial(Event, source="bridge")
_CALL = ("callID", "contactID")
_LOST = ("callerid", "destination", "attempts", "last_contact")
_CHANGE = ("subscriptionID", "since")

EVENTS: tuple[Event, ...] = (
    Event("CallStarted", _CALL_STARTED, _CALL, "A call starts to ring."),
    Event("CallConnected", _CALL_CONNECTED, _CALL, "Somebody answers the call."),
    Event("CallCompleted", _CALL_COMPLETED, _CALL, "The call has ended."),
    Event("CallRecorded", _RECORDED, ("recordingID",), "A recording of the call has been made.", announces="recording"),
    Event(
        "CallTransfered",
        _CALL_COMPLETED,
        (*_CALL, "previous_contactID", "moment"),
        "The call is handed to somebody else.",
        aliases=("CallTransferred",),
    ),
    Event(
        "LostCallerAdded",
        _LOST_CALL,
        _LOST,
        "A caller reached nobody and waits to be called back.",
        waits=True,
        aliases=("LostCallerCreated",),
    ),
    Event("LostCallerUpdated", _LOST_CALL, _LOST, "A lost caller has tried again in vain.", waits=True),
    Event(
        "LostCallerRemoved",
        _LOST_CALLER,
        ("callerid", "destination"),
        "A lost caller was called back, or got through.",
        waits=True,
        aliases=("LostCallerDeleted",),
    ),
    Event("VoicemailCreated", _LEFT, ("voicemailID",), "A caller has left a voicemail.", announces="voicemail"),
    Event("VoicemailDeleted", _DELETED, ("voicemailID",), "A voicemail was deleted at the PBX.", withdraws="voicemail"),
    _ours(
        "RecordingStored",
        _stored("StoredRecording", RECORDING, "recordingURL", "connectionTime"),
        ("recordingID", "sha256"),
        "A recording's audio is in Blob Storage.",
    ),
    _ours(
        "VoicemailStored",
        _stored("StoredVoicemail", VOICEMAIL, "messageURL", "callID", "contactID"),
        ("voicemailID", "sha256"),
        "A voicemail's audio is in Blob Storage.",
    ),
    _ours(
        "SubscriptionDisabled",
        _STATE,
        _CHANGE,
        "A subscription has only failed for five days, and gets no more events.",
    ),
    _ours("SubscriptionRecovered", _STATE, _CHANGE, "A disabled subscription works again."),
    _ours("SubscriptionEnded", _STATE, _CHANGE, "A subscriber has answered that it is gone."),
    *(event for row in RESOURCES if row.editable for event in _polled(row)),
)


def _spellings(rows: Iterable[Event]) -> dict[str, Event]:
    spellings: dict[str, Event] = {}
    for row in rows:
        for name in (row.name, *row.aliases):
            for spelling in (name.lower(), f"{name.lower()}event"):
                if spellings.setdefault(spelling, row) is not row:
                    raise ValueError(f"two events are spelled {spelling}")
    return spellings


_SPELLINGS = _spellings(EVENTS)
_SEPARATORS = str.maketrans("", "", " _-")


def find_event(spelling: str) -> Event | None:
    """Return the event of a name in any letter case, with or without a trailing `Event`; None if unknown."""
    return _SPELLINGS.get(spelling.strip().translate(_SEPARATORS).lower())


def wanted_events(names: Iterable[str]) -> tuple[Event, ...]:
    """Return the PBX's events of these names, or all of them without any; raise ConfigError for an unknown name."""
    offered = tuple(event for event in EVENTS if event.source == "pbx")
    named = [(name, find_event(name)) for name in names]
    if unknown := [name for name, event in named if event not in offered]:
        known = ", ".join(event.name for event in offered)
        raise ConfigError(f"Invalid settings: PBX_EVENTS: got {redact(', '.join(unknown))!r}; write some of {known}")
    chosen = [event for _, event in named]
    return tuple(event for event in offered if event in chosen) or offered


def event_named(name: str) -> Event:
    """Return the event of this name; raises KeyError with the known names for any other."""
    row = find_event(name)
    if row is None:
        raise KeyError(f"{name} is not one of {', '.join(event.name for event in EVENTS)}")
    return row


def event_id(event: Event, data: Data, region: str, occurrence: str = "", hide: Callable[[str], str] = str) -> str:
    """
    Return the id of the event: base32 of the SHA-256 of the event's name and natural key, in lower case.

    It is the same by webhook, by poll and by replay. A part of the key that cannot be read enters as it was sent.
    `occurrence` tells apart events that happen again under one key. `hide` makes a keyed hash of a number, since
    all numbers of eight digits can be tried in seconds.
    """
    parts = [event.name]
    for name in event.key:
        value = data.moment if name == "moment" else data.get(name, data.misfits.get(name, ""))
        if isinstance(value, datetime):
            value = iso(value)
        elif not isinstance(value, str | int):
            value = json.dumps(value, ensure_ascii=False, sort_keys=True)
        elif name in _PAIR:
            # The PBX writes the same number as national digits in one place and as E.164 in another.
            value = hide(e164(str(value), region) or str(value)) if value else ""
        parts.append(str(value).strip())
    text = json.dumps([*parts, occurrence] if occurrence else parts, ensure_ascii=False)
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=").lower()
