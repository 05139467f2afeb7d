"""What each event and each item of a list carries, field by field, as the PBX's reference names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, create_model

from shared.events.data import (
    ABSENT,
    KNOWN,
    AnyIdentifier,
    AnyInteger,
    AnyMoment,
    AnyPhone,
    AnySeconds,
    AnyString,
    AnyText,
    Data,
    Identifier,
    Moment,
    Phone,
    known_fields,
)
from shared.json_bodies import is_spoilt
from shared.once import once
from shared.times import after

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.pbx.fields import Field, Shape


class Call(Data):
    """A call as CallStarted describes it."""

    moment_field = "callStarted"
    callID: Identifier
    caller: AnyPhone = None
    destination: AnyPhone = None
    direction: AnyText = None
    status: AnyInteger = None
    callStarted: AnyMoment = None
    contactID: AnyIdentifier = None


class ConnectedCall(Call):
    """A call that somebody answered."""

    moment_field = "callConnected"
    callConnected: AnyMoment = None


class CompletedCall(ConnectedCall):
    """A call that has ended; `connectionTime` is in seconds, `previous_contactID` stands only on transferred calls."""

    connectionTime: AnySeconds = None
    previous_contactID: AnyIdentifier = None
    # Only the history has the end; a reconciled event carries it.
    callEnded: AnyMoment = None

    @property
    def moment(self) -> datetime | None:
        if self.callEnded or self.callConnected is None or self.connectionTime is None:
            return self.callEnded
        return after(self.callConnected, self.connectionTime)


class Recording(Data):
    """A recording that has been made; its file may come later."""

    recordingID: Identifier
    callID: AnyIdentifier = None
    callStarted: AnyMoment = None
    recordingURL: AnyString = None
    direction: AnyText = None
    connectionTime: AnySeconds = None


class LostCaller(Data):
    """Who could not be reached by whom; both are on every such event, though a withheld number is empty."""

    destination: Phone
    callerid: Phone


class LostCall(LostCaller):
    """A caller waiting to be called back, after so many attempts."""

    moment_field = "last_contact"
    contact_name: AnyString = None
    attempts: AnyInteger = None
    last_contact: AnyMoment = None


class DeletedVoicemail(Data):
    """A voicemail that was deleted at the PBX."""

    voicemailID: Identifier
    sender: AnyPhone = None


class Voicemail(DeletedVoicemail):
    """A voicemail that was left; `length` is in seconds."""

    moment_field = "callStarted"
    length: AnySeconds = None
    callStarted: AnyMoment = None
    voicemailBoxID: AnyIdentifier = None
    voicemailBoxName: AnyString = None
    messageURL: AnyString = None


class StoredAudio(Data):
    """Audio that is in Blob Storage: where, how many bytes, since when; `sha256` in hexadecimal digits."""

    moment_field = "storedAt"
    blobUrl: str
    container: str
    blobName: str
    sha256: str
    size: Identifier
    contentType: str
    storedAt: Moment
    incomplete: bool | None = None


class StoredRecording(StoredAudio, Recording):
    """A recording whose audio is in Blob Storage."""

    caller: AnyPhone = None
    destination: AnyPhone = None
    contactID: AnyIdentifier = None


class StoredVoicemail(StoredAudio, Voicemail):
    """A voicemail whose audio is in Blob Storage."""

    callID: AnyIdentifier = None
    contactID: AnyIdentifier = None


class SubscriptionState(Data):
    """A change of a subscription: its id, name and event, the host it posts to, and the answer that has ended it."""

    moment_field = "since"
    subscriptionID: str
    name: str | None = None
    event: str
    host: str | None = None
    answer: str | None = None
    since: Moment


KNOWN += [CompletedCall, LostCall, StoredRecording, StoredVoicemail]


def _parts(value: Any) -> Any:
    """A list, also where it was written as an object with the places as names."""
    if isinstance(value, dict) and all(name.isdecimal() for name in value):
        value = list(value.values())
    return [part for part in value if part is not None] if isinstance(value, list) else value


_TYPES: Mapping[str, Any] = {
    "integer": AnyInteger,
    "string": AnyString,
    "date-time": AnyMoment,
    "array": Annotated[list[dict[str, Any]] | None, BeforeValidator(_parts), ABSENT],
    "object": Annotated[dict[str, Any] | None, ABSENT],
}


@once
def item_model(noun: str, shape: Shape, id_field: str | None = None) -> type[Data]:
    """The model of items of a shape: the id is required where it is named, all else is absent where it does not fit."""
    fields: dict[str, Any] = {field.name: (_type_of(field), None) for field in shape}
    return create_model(noun, __base__=Data, **fields | ({id_field: (Identifier, ...)} if id_field else {}))


def item_drift(shape: Shape, item: Mapping[str, Any]) -> set[str]:
    """
    Names of an item's fields that the PBX's reference does not know, or that do not fit what it says of them.

    Fields of what stands inside it have both names: `members.contactID`. `encoding` is among them where characters
    could not be read.
    """
    return _drift(shape, item) | ({"encoding"} if is_spoilt(item) else set())


def _drift(shape: Shape, item: Mapping[str, Any]) -> set[str]:
    data = item_model("Item", shape).model_validate(dict(item))
    found = data.drift(item)
    for field in shape:
        for part in (getattr(data, field.name) or ()) if field.type == "array" else ():
            found |= {f"{field.name}.{name}" for name in _drift(field.fields, part)}
    return found


def _type_of(field: Field) -> Any:
    """How a field is read: as in an event, where events have it too."""
    if field.name in known_fields():
        return known_fields()[field.name]
    return AnyIdentifier if field.name.lower().endswith("id") and field.type == "integer" else _TYPES[field.type]
