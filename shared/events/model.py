"""What each event carries, field by field, as the PBX's reference names it; unknown fields are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PrivateAttr,
    TypeAdapter,
    model_validator,
)

from shared.events.field_types import (
    ABSENT,
    AnyIdentifier,
    AnyInteger,
    AnyMoment,
    AnySeconds,
    AnyString,
    AnyText,
    Identifier,
    Moment,
    Text,
    present,
)
from shared.once import once
from shared.times import after, belongs_to_call, call_start, has_zone

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

# What happens in a call, after its start.
_IN_A_CALL = ("callConnected", "callEnded")


class Data(BaseModel):
    """
    The base of all events' data: `""` and null mean absent, and unknown fields ride along.

    Only identifiers are required. Any other field that does not fit counts as absent, and stands in `misfits` as it
    was sent. A field that the reference knows from other events only counts as one where it fits what they say of it.
    """

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True, defer_build=True)

    _misfits: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, values: Any, read: ModelWrapValidatorHandler[Data]) -> Data:
        if not isinstance(values, dict):
            return read(values)
        sent = present(values)
        empty = {name: None for name, field in cls.model_fields.items() if field.is_required() and name in values}
        fitting = empty | _only_fitting(sent, cls.model_fields.keys())
        data = read(fitting)
        implausible = data._implausible(sent)
        if implausible:
            data = read(fitting | dict.fromkeys(implausible))
        known = cls.model_fields.keys() | _readers().keys()
        data._misfits = {name: sent[name] for name in sent.keys() & known if getattr(data, name, None) is None}
        return data

    @property
    def misfits(self) -> Mapping[str, Any]:
        """The fields that count as absent because they do not fit, as they were sent."""
        return self._misfits

    @property
    def moment(self) -> datetime | None:
        """When it happened, as far as the event says."""
        return None

    def drift(self, sent: Mapping[str, Any]) -> set[str]:
        """Names of the fields, as they were sent, that are unknown or do not fit."""
        return (present(sent).keys() - type(self).model_fields.keys()) | self.misfits.keys()

    def _implausible(self, sent: Mapping[str, Any]) -> list[str]:
        """Names of times that the call's own start, or the one in its id, leaves no room for."""
        call_id = getattr(self, "callID", None)
        known = (getattr(self, "callStarted", None), None if call_id is None else call_start(call_id))
        starts = [start for start in known if start is not None]
        said = {name: getattr(self, name, None) for name in _IN_A_CALL} if starts else {}
        return [
            name
            for name, moment in said.items()
            if moment and not any(belongs_to_call(moment, start, zoned=has_zone(sent[name])) for start in starts)
        ]


def _only_fitting(values: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """The values, of which those that other events know are read as they say, and left out where they do not fit."""
    foreign = (values.keys() - own) & _readers().keys()
    read = {**values, **{name: _readers()[name].validate_python(values[name]) for name in foreign}}
    return {name: value for name, value in read.items() if value is not None}


class Call(Data):
    """A call as CallStarted describes it."""

    callID: Identifier
    caller: AnyText = None
    destination: AnyText = None
    direction: AnyText = None
    status: AnyInteger = None
    callStarted: AnyMoment = None
    contactID: AnyIdentifier = None

    @property
    def moment(self) -> datetime | None:
        return self.callStarted


class ConnectedCall(Call):
    """A call that somebody answered."""

    callConnected: AnyMoment = None

    @property
    def moment(self) -> datetime | None:
        return self.callConnected


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

    destination: Text
    callerid: Text


class LostCall(LostCaller):
    """A caller waiting to be called back, after so many attempts."""

    contact_name: AnyString = None
    attempts: AnyInteger = None
    last_contact: AnyMoment = None

    @property
    def moment(self) -> datetime | None:
        return self.last_contact


class DeletedVoicemail(Data):
    """A voicemail that was deleted at the PBX."""

    voicemailID: Identifier
    sender: AnyText = None


class Voicemail(DeletedVoicemail):
    """A voicemail that was left; `length` is in seconds."""

    length: AnySeconds = None
    callStarted: AnyMoment = None
    voicemailBoxID: AnyIdentifier = None
    voicemailBoxName: AnyString = None
    messageURL: AnyString = None

    @property
    def moment(self) -> datetime | None:
        return self.callStarted


class StoredAudio(Data):
    """Audio that is in Blob Storage: where, how many bytes, since when; `sha256` in hexadecimal digits."""

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

    caller: AnyText = None
    destination: AnyText = None
    contactID: AnyIdentifier = None


class StoredVoicemail(StoredAudio, Voicemail):
    """A voicemail whose audio is in Blob Storage."""

    callID: AnyIdentifier = None
    contactID: AnyIdentifier = None


@once
def known_fields() -> Mapping[str, Any]:
    """How each field is read that an event of a call, a lost caller or a voicemail knows: a type, None for a misfit."""
    rows: tuple[type[Data], ...] = (CompletedCall, LostCall, StoredRecording, StoredVoicemail)
    fields = {name: field for row in rows for name, field in row.model_fields.items()}
    return {name: Annotated[field.rebuild_annotation() | None, ABSENT] for name, field in fields.items()}


@once
def _readers() -> Mapping[str, TypeAdapter[Any]]:
    config = ConfigDict(coerce_numbers_to_str=True)
    return {name: TypeAdapter(annotation, config=config) for name, annotation in known_fields().items()}


class SubscriptionState(Data):
    """What became of a subscription; `event` is what it is for, `host` where it is posted, `since` when it changed."""

    subscriptionID: str
    event: str
    host: str | None = None
    since: Moment

    @property
    def moment(self) -> datetime | None:
        return self.since
