"""The base of what events carry: what is absent, what does not fit, and what rides along unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PrivateAttr,
    TypeAdapter,
    model_validator,
)

from shared.events.field_types import ABSENT, present
from shared.once import once
from shared.times import belongs_to_call, call_start, has_zone

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

Model = TypeVar("Model", bound="Data")
_KNOWN: list[type[Data]] = []
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
        known = cls.model_fields.keys() | readers().keys()
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
    foreign = (values.keys() - own) & readers().keys()
    read = {**values, **{name: readers()[name].validate_python(values[name]) for name in foreign}}
    return {name: value for name, value in read.items() if value is not None}


def known(model: type[Model]) -> type[Model]:
    """Have a field of the same name that another event carries read as this model says."""
    _KNOWN.append(model)
    return model


@once
def known_fields() -> Mapping[str, Any]:
    """How each field of the known models is read: a type, None for a misfit."""
    fields = {name: field for model in _KNOWN for name, field in model.model_fields.items()}
    return {name: Annotated[field.rebuild_annotation() | None, ABSENT] for name, field in fields.items()}


@once
def readers() -> Mapping[str, TypeAdapter[Any]]:
    """What reads each of these fields by itself."""
    config = ConfigDict(coerce_numbers_to_str=True)
    return {name: TypeAdapter(annotation, config=config) for name, annotation in known_fields().items()}
