"""The events: one table that every other part reads."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from shared import models
from shared.operations import operation
from shared.phones import e164
from shared.resources import RESOURCES
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUMBERS = ("callerid", "destination")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """
    A row: an event's name on the wire, its model, and the fields that make it the same fact when told twice.

    `window` is for a fact that carries neither a time nor an id: repeats within it are one event.
    `announces` and `withdraws` name the media row that the event is about. `source` tells who speaks of it
    first: the PBX by webhook, our pollers, or the bridge itself.
    """

    name: str
    model: type[models.Data]
    key: tuple[str, ...]
    description: str
    aliases: tuple[str, ...] = ()
    window: timedelta | None = None
    announces: str | None = None
    withdraws: str | None = None
    source: Literal["pbx", "poll", "bridge"] = "pbx"

    @property
    def function(self) -> str:
        """The name of the function that receives it."""
        return f"On{self.name}"


_CALL = ("callID", "contactID")
_LOST = ("callerid", "destination", "attempts", "last_contact")


def _fields(read_operation: str) -> list[str]:
    return [field.name for field in operation(read_operation).item]


_POLLED = (("Created", "added to"), ("Updated", "changed in"), ("Removed", "removed from"))

EVENTS: tuple[Event, ...] = (
    Event(name="CallStarted", model=models.Call, key=_CALL, description="A call starts to ring."),
    Event(name="CallConnected", model=models.ConnectedCall, key=_CALL, description="Somebody answers the call."),
    Event(name="CallCompleted", model=models.CompletedCall, key=_CALL, description="The call has ended."),
    Event(
        name="CallRecorded",
        model=models.Recording,
        key=("recordingID",),
        announces="recording",
        description="A recording of the call has been made.",
    ),
    Event(
        name="CallTransfered",
        model=models.CompletedCall,
        key=(*_CALL, "previous_contactID"),
        aliases=("CallTransferred",),
        description="The call is handed to somebody else.",
    ),
    Event(
        name="LostCallerAdded",
        model=models.LostCall,
        key=_LOST,
        aliases=("LostCallerCreated",),
        description="A caller reached nobody and waits to be called back.",
    ),
    Event(
        name="LostCallerUpdated",
        model=models.LostCall,
        key=_LOST,
        description="A lost caller has tried again in vain.",
    ),
    Event(
        name="LostCallerRemoved",
        model=models.LostCaller,
        key=("callerid", "destination"),
        aliases=("LostCallerDeleted",),
        window=timedelta(minutes=10),
        description="A lost caller was called back, or got through.",
    ),
    Event(
        name="VoicemailCreated",
        model=models.Voicemail,
        key=("voicemailID",),
        announces="voicemail",
        description="A caller has left a voicemail.",
    ),
    Event(
        name="VoicemailDeleted",
        model=models.DeletedVoicemail,
        key=("voicemailID",),
        withdraws="voicemail",
        description="A voicemail was deleted at the PBX.",
    ),
    Event(
        name="RecordingStored",
        model=models.StoredRecording,
        key=("recordingID", "sha256"),
        source="bridge",
        description="A recording's audio is in Blob Storage.",
    ),
    Event(
        name="VoicemailStored",
        model=models.StoredVoicemail,
        key=("voicemailID", "sha256"),
        source="bridge",
        description="A voicemail's audio is in Blob Storage.",
    ),
    Event(
        name="SubscriptionDisabled",
        model=models.SubscriptionState,
        key=("subscriptionID", "since"),
        source="bridge",
        description="A subscription had nothing but failures for five days, and is told of nothing more.",
    ),
    Event(
        name="SubscriptionRecovered",
        model=models.SubscriptionState,
        key=("subscriptionID", "since"),
        source="bridge",
        description="A disabled subscription works again.",
    ),
    *(
        Event(
            name=f"{resource.noun}{happening}",
            model=models.polled(
                resource.noun, resource.id_field, [field.name for field in operation(resource.read_operation).item]
            ),
            key=(resource.id_field,),
            source="poll",
            description=f"{_WORDS.sub(' ', resource.noun).capitalize()} {words} the PBX.",
        )
        for resource in RESOURCES
        if resource.editable
        for happening, words in _POLLED
    ),
)


def _spellings(rows: Iterable[Event]) -> dict[str, Event]:
    known: dict[str, Event] = {}
    for row in rows:
        for name in (row.name, *row.aliases):
            for spelling in (name.lower(), f"{name.lower()}event"):
                if known.setdefault(spelling, row) is not row:
                    raise ValueError(f"two events are spelled {spelling}")
    return known


_SPELLINGS = _spellings(EVENTS)
_SEPARATORS = str.maketrans("", "", " _-")


def find_event(spelling: str) -> Event | None:
    """The event that a name means, in any letter case, with or without a trailing `Event`; None if unknown."""
    return _SPELLINGS.get(spelling.strip().translate(_SEPARATORS).lower())


def event_named(name: str) -> Event:
    """The event of this name; raises KeyError with the known names for any other."""
    row = find_event(name)
    if row is None:
        raise KeyError(f"{name} is not one of {', '.join(event.name for event in EVENTS)}")
    return row


def _part(field: str, value: Any, region: str) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return iso(value)
    # The same number comes as national digits or as E.164, depending on where it is asked for.
    return (e164(value, region) or value) if field in _NUMBERS else str(value)


def event_id(event: Event, data: models.Data, region: str, occurrence: str = "") -> str:
    """
    The id of the fact: base32 of the SHA-256 of the event's name and natural key, in lower case.

    It is the same whether the fact came by webhook, by poll or by replay. `occurrence` tells apart facts that
    can happen again under the same key, such as LostCallerRemoved.
    """
    values = [_part(field, getattr(data, field, None), region) for field in event.key]
    text = json.dumps([event.name, *values, *([occurrence] if occurrence else [])], ensure_ascii=False)
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=").lower()
