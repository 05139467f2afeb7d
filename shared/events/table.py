"""The events: one table that every other part reads."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from shared.errors import ConfigError
from shared.once import once
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES
from shared.phones import e164
from shared.redaction import redact
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shared.events.model import Data

_NUMBERS = ("callerid", "destination")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Event:
    """
    A row: an event's name on the wire, the model of its data, and the fields that identify it when it is sent twice.

    `waits` marks the events of lost callers, which can happen again under the same key without a time of their own.
    `moment` in a key is the event's own time.
    `announces` and `withdraws` name the media row that the event is about. `source` is who sends it
    first: the PBX by webhook, our pollers, or the bridge itself.
    """

    name: str
    carries: str
    key: tuple[str, ...]
    description: str
    aliases: tuple[str, ...] = ()
    waits: bool = False
    announces: str | None = None
    withdraws: str | None = None
    source: Literal["pbx", "poll", "bridge"] = "pbx"

    @property
    def model(self) -> type[Data]:
        """Return the model of its data."""
        return _model(self.carries)

    @property
    def function(self) -> str:
        """Return the name of the function that receives it."""
        return f"On{self.name}"

    def is_known_by_key(self, data: Data) -> bool:
        """True if the key alone tells a repeat from the next event of its kind."""
        return not self.waits or data.moment is not None


@once
def _model(name: str) -> type[Data]:
    # Loaded where the first event is read: pydantic is a third of a cold start.
    from shared.events import model as models
    from shared.events.model import item_model

    for resource in RESOURCES:
        if resource.editable and resource.noun == name:
            return item_model(name, operation(resource.read_operation).item, resource.id_field)
    model: type[Data] = getattr(models, name)
    return model


_ours = partial(Event, source="bridge")
_CALL = ("callID", "contactID")
_LOST = ("callerid", "destination", "attempts", "last_contact")
_RECORDING, _VOICEMAIL = ("recordingID",), ("voicemailID",)
_STATE = ("subscriptionID", "since")
_POLLED = (("Created", "added to"), ("Updated", "changed in"), ("Removed", "removed from"))

EVENTS: tuple[Event, ...] = (
    Event("CallStarted", "Call", _CALL, "A call starts to ring."),
    Event("CallConnected", "ConnectedCall", _CALL, "Somebody answers the call."),
    Event("CallCompleted", "CompletedCall", _CALL, "The call has ended."),
    Event("CallRecorded", "Recording", _RECORDING, "A recording of the call has been made.", announces="recording"),
    Event(
        "CallTransfered",
        "CompletedCall",
        (*_CALL, "previous_contactID", "moment"),
        "The call is handed to somebody else.",
        aliases=("CallTransferred",),
    ),
    Event(
        "LostCallerAdded",
        "LostCall",
        _LOST,
        "A caller reached nobody and waits to be called back.",
        waits=True,
        aliases=("LostCallerCreated",),
    ),
    Event("LostCallerUpdated", "LostCall", _LOST, "A lost caller has tried again in vain.", waits=True),
    Event(
        "LostCallerRemoved",
        "LostCaller",
        ("callerid", "destination"),
        "A lost caller was called back, or got through.",
        waits=True,
        aliases=("LostCallerDeleted",),
    ),
    Event("VoicemailCreated", "Voicemail", _VOICEMAIL, "A caller has left a voicemail.", announces="voicemail"),
    Event(
        "VoicemailDeleted", "DeletedVoicemail", _VOICEMAIL, "A voicemail was deleted at the PBX.", withdraws="voicemail"
    ),
    _ours("RecordingStored", "StoredRecording", ("recordingID", "sha256"), "A recording's audio is in Blob Storage."),
    _ours("VoicemailStored", "StoredVoicemail", ("voicemailID", "sha256"), "A voicemail's audio is in Blob Storage."),
    _ours(
        "SubscriptionDisabled",
        "SubscriptionState",
        _STATE,
        "A subscription had nothing but failures for five days, and gets nothing more.",
    ),
    _ours("SubscriptionRecovered", "SubscriptionState", _STATE, "A disabled subscription works again."),
    _ours("SubscriptionEnded", "SubscriptionState", _STATE, "A subscriber has answered that it is gone for good."),
    *(
        Event(
            f"{resource.noun}{happening}",
            resource.noun,
            (resource.id_field,),
            f"{_WORDS.sub(' ', resource.noun).capitalize()} {words} the PBX.",
            source="poll",
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


def _part(data: Data, field: str, region: str, hide: Callable[[str], str]) -> str:
    value = getattr(data, field, None)
    if value is None:
        raw = data.misfits.get(field, "")
        return raw.strip() if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, sort_keys=True)
    if isinstance(value, datetime):
        return iso(value)
    # The same number comes as national digits or as E.164, depending on where it is asked for.
    return hide(e164(value, region) or value) if field in _NUMBERS else str(value)


def event_id(event: Event, data: Data, region: str, occurrence: str = "", hide: Callable[[str], str] = str) -> str:
    """
    Return the id of the event: base32 of the SHA-256 of the event's name and natural key, in lower case.

    It is the same whether the event came by webhook, by poll or by replay. A part of the key that cannot be read
    enters as it was sent. `occurrence` makes events differ that can happen again under the same key, such as
    LostCallerRemoved. `hide` makes a keyed hash of a number: eight digits are tried out in seconds.
    """
    values = [_part(data, field, region, hide) for field in event.key]
    text = json.dumps([event.name, *values, *([occurrence] if occurrence else [])], ensure_ascii=False)
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=").lower()
