"""The models of what events and items of lists carry: their fields as the PBX names them, and how each is read."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_validator,
)

from shared.identifiers import LARGEST_ID, identifier
from shared.json_bodies import is_spoilt
from shared.once import once
from shared.phones import spelt
from shared.times import LONGEST_CALL, after, belongs_to_call, call_start, event_time, has_zone, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.pbx.fields import Field as ShapeField
    from shared.pbx.fields import Shape

# The models whose fields are read alike where another event carries one of the same name.
KNOWN: list[type[Data]] = []
# What happens in a call, after its start.
_IN_A_CALL = ("callConnected", "callEnded")
# No number is as long, and a table's column takes no more than 64 KiB.
_LONGEST_NUMBER = 1000
_LONGEST_SECONDS = int(LONGEST_CALL.total_seconds())


def _integer(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a whole number is expected")
    return value


def _identifier(value: Any) -> int:
    number = identifier(value)
    if number is None:
        raise ValueError(f"a whole number from 0 to {LARGEST_ID} is expected")
    return number


def _time(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("a time is expected")
    return parse_time(value)


def _text(value: Any) -> Any:
    """Digits where a number came with a fraction of nothing."""
    return spelt(value) or value if isinstance(value, float) else value


def _phone(value: Any) -> Any:
    return spelt(value) or value if isinstance(value, str | float) else value


def _or_absent(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


# What is required is refused where it does not fit; what may be absent is absent then.
ABSENT = WrapValidator(_or_absent)
Identifier = Annotated[int, BeforeValidator(_identifier)]
Moment = Annotated[datetime, BeforeValidator(_time)]
AnyIdentifier = Annotated[int | None, BeforeValidator(identifier)]
AnyInteger = Annotated[int | None, BeforeValidator(_integer), Field(ge=-(2**63), le=LARGEST_ID), ABSENT]
AnySeconds = Annotated[int | None, BeforeValidator(_integer), Field(ge=0, le=_LONGEST_SECONDS), ABSENT]
AnyMoment = Annotated[datetime | None, BeforeValidator(event_time)]
_Short = Annotated[str, Field(max_length=_LONGEST_NUMBER)]
AnyText = Annotated[_Short | None, BeforeValidator(_text), ABSENT]
AnyPhone = Annotated[_Short | None, BeforeValidator(_phone), ABSENT]
# What identifies: empty where it is withheld, and refused where it is no text.
Phone = Annotated[_Short | None, BeforeValidator(_phone)]
AnyString = Annotated[str | None, BeforeValidator(_text), ABSENT]


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not empty: `""` and null mean absent."""
    return {name: one for name, one in values.items() if one is not None and (not isinstance(one, str) or one.strip())}


class Data(BaseModel, extra="allow", frozen=True, coerce_numbers_to_str=True, defer_build=True):
    """
    The base of all events' data: `""` and null mean absent, and unknown fields ride along.

    Only identifiers are required. Any other field that does not fit counts as absent, and stands in `misfits` as it
    was sent. A field that the reference knows from other events only counts as one where it fits what they say of it.
    """

    # The field that says when it happened.
    moment_field: ClassVar[str | None] = None
    _misfits: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, values: Any, read: ModelWrapValidatorHandler[Data]) -> Data:
        if not isinstance(values, dict):
            return read(values)
        sent, own, others, fitting = present(values), cls.model_fields, readers(), dict[str, Any]()
        for name, field in own.items():
            if field.is_required() and name in values:
                fitting[name] = None
        for name, value in sent.items():
            # What other events know is read as they say, and left out where it does not fit.
            fits = value if name in own or name not in others else others[name].validate_python(value)
            if fits is not None:
                fitting[name] = fits
        data = read(fitting)
        if implausible := data._implausible(sent):
            data = read(fitting | dict.fromkeys(implausible))
        for name, value in sent.items():
            if (name in own or name in others) and getattr(data, name, None) is None:
                data._misfits[name] = value
        return data

    @property
    def misfits(self) -> Mapping[str, Any]:
        """Return the fields that count as absent because they do not fit, as they were sent."""
        return self._misfits

    @property
    def moment(self) -> datetime | None:
        """Return when it happened, or None."""
        moment: datetime | None = getattr(self, self.moment_field) if self.moment_field else None
        return moment

    def drift(self, sent: Mapping[str, Any]) -> set[str]:
        """Return the names of fields, as they were sent, that are unknown or do not fit."""
        return (present(sent).keys() - type(self).model_fields.keys()) | self.misfits.keys()

    def _implausible(self, sent: Mapping[str, Any]) -> list[str]:
        """Return the names of times that are before the call's start, or the one in its id, or long after it."""
        starts = (getattr(self, "callStarted", None), call_start(getattr(self, "callID", None) or 0))
        found = []
        for name in _IN_A_CALL:
            moment = getattr(self, name, None)
            if moment and not belongs_to_call(moment, starts, zoned=has_zone(sent[name])):
                found.append(name)
        return found


@once
def known_fields() -> Mapping[str, Any]:
    """Return the type of each field of the known models, None for a misfit."""
    fields = {name: field for model in KNOWN for name, field in model.model_fields.items()}
    return {name: Annotated[field.rebuild_annotation() | None, ABSENT] for name, field in fields.items()}


@once
def readers() -> Mapping[str, TypeAdapter[Any]]:
    """Return the adapter that reads each of these fields by itself."""
    config = ConfigDict(coerce_numbers_to_str=True)
    return {name: TypeAdapter(annotation, config=config) for name, annotation in known_fields().items()}


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
    """A caller and the number that was called; both are on every such event, though a withheld number is empty."""

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
    """Return a list, also where it was written as an object with the places as names."""
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
    """Return the model of items of a shape: the id is required where it is named, other fields are absent if odd."""
    fields: dict[str, Any] = {field.name: (_type_of(field), None) for field in shape}
    return create_model(noun, __base__=Data, **fields | ({id_field: (Identifier, ...)} if id_field else {}))


def item_drift(shape: Shape, item: Mapping[str, Any]) -> set[str]:
    """
    Return the names of an item's fields that the PBX's reference does not know, or whose values do not fit it.

    Fields of inner objects have both names: `members.contactID`. `encoding` is among them where characters
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


def _type_of(field: ShapeField) -> Any:
    """Return the type of a field: as in events, where events have it too."""
    if field.name in known_fields():
        return known_fields()[field.name]
    return AnyIdentifier if field.name.lower().endswith("id") and field.type == "integer" else _TYPES[field.type]
