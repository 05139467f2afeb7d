"""What each event carries, field by field, as the PBX's reference names it; unknown fields are kept."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)

from shared.storage.rows import LARGEST_ID
from shared.times import after, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# No number is as long, and a table's column takes no more than 64 KiB.
_LONGEST_NUMBER = 1000


def _integer(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a whole number is expected")
    return value


def _moment(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("a time is expected")
    return parse_time(value)


Integer = Annotated[int, BeforeValidator(_integer), Field(ge=-(2**63), le=LARGEST_ID)]
Identifier = Annotated[int, BeforeValidator(_integer), Field(ge=0, le=LARGEST_ID)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Short = Annotated[str, Field(max_length=_LONGEST_NUMBER)]


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say something: `""` and null mean absent."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, str) and not value.strip())
    }


class Data(BaseModel):
    """
    The base of all events' data: `""` and null mean absent, and unknown fields ride along.

    A field that the reference knows from other events only counts as one where it fits what they say of it.
    """

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        told = present(values)
        for name in (told.keys() - cls.model_fields.keys()) & _readers().keys():
            try:
                told[name] = _readers()[name].validate_python(told[name])
            except ValidationError:
                del told[name]
        return told

    @property
    def moment(self) -> datetime | None:
        """When it happened, as far as the event tells."""
        return None


class Call(Data):
    """A call as CallStarted tells it."""

    callID: Identifier
    caller: Short | None = None
    destination: Short | None = None
    direction: Short | None = None
    status: Integer | None = None
    callStarted: Moment | None = None
    contactID: Identifier | None = None

    @property
    def moment(self) -> datetime | None:
        return self.callStarted


class ConnectedCall(Call):
    """A call that somebody answered."""

    callConnected: Moment | None = None

    @property
    def moment(self) -> datetime | None:
        return self.callConnected


class CompletedCall(ConnectedCall):
    """A call that has ended; `connectionTime` is in seconds, `previous_contactID` stands only on transferred calls."""

    connectionTime: Integer | None = None
    previous_contactID: Identifier | None = None
    # Only history tells the end; a reconciled event carries it.
    callEnded: Moment | None = None

    @property
    def moment(self) -> datetime | None:
        if self.callEnded or self.callConnected is None or self.connectionTime is None:
            return self.callEnded
        return after(self.callConnected, self.connectionTime)


class Recording(Data):
    """A recording that has been made; its file may come later."""

    recordingID: Identifier
    callID: Identifier | None = None
    callStarted: Moment | None = None
    recordingURL: str | None = None
    direction: Short | None = None
    connectionTime: Integer | None = None


class LostCaller(Data):
    """Who could not be reached by whom; both are on every such event, though a withheld number is empty."""

    destination: Short | None = None
    callerid: Short | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_both(cls, values: Any) -> Any:
        if isinstance(values, dict) and not {"destination", "callerid"} <= values.keys():
            raise ValueError("destination and callerid are expected, empty where withheld")
        return values


class LostCall(LostCaller):
    """A caller waiting to be called back, after so many attempts."""

    contact_name: str | None = None
    attempts: Integer | None = None
    last_contact: Moment | None = None

    @property
    def moment(self) -> datetime | None:
        return self.last_contact


class DeletedVoicemail(Data):
    """A voicemail that was deleted at the PBX."""

    voicemailID: Identifier
    sender: Short | None = None


class Voicemail(DeletedVoicemail):
    """A voicemail that was left; `length` is in seconds."""

    length: Integer | None = None
    callStarted: Moment | None = None
    voicemailBoxID: Identifier | None = None
    voicemailBoxName: str | None = None
    messageURL: str | None = None

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

    caller: Short | None = None
    destination: Short | None = None
    contactID: Identifier | None = None


class StoredVoicemail(StoredAudio, Voicemail):
    """A voicemail whose audio is in Blob Storage."""

    callID: Identifier | None = None
    contactID: Identifier | None = None


@cache
def _readers() -> Mapping[str, TypeAdapter[Any]]:
    """How each field is read that any event of a call, a lost caller or a voicemail knows."""
    config = ConfigDict(coerce_numbers_to_str=True)
    rows: tuple[type[Data], ...] = (CompletedCall, LostCall, StoredRecording, StoredVoicemail)
    fields = {name: field for row in rows for name, field in row.model_fields.items()}
    return {name: TypeAdapter(field.rebuild_annotation(), config=config) for name, field in fields.items()}


class SubscriptionState(Data):
    """What became of a subscription; `event` is what it is for, `host` where it is told, `since` when it changed."""

    subscriptionID: str
    event: str
    host: str | None = None
    since: Moment

    @property
    def moment(self) -> datetime | None:
        return self.since


def polled(name: str, identifier: str, known: Iterable[str]) -> type[Data]:
    """The model of an item that our pollers tell of: its id is checked, the rest is as the PBX's list has it."""
    fields: dict[str, Any] = dict.fromkeys(known, (Any, None)) | {identifier: (Identifier, ...)}
    return create_model(name, __base__=Data, **fields)


class Envelope(BaseModel):
    """What the PBX posts around an event's data."""

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True, defer_build=True)

    type: str | None = None
    eventType: str | None = None
    version: str | None = None
    data: dict[str, Any]
