"""The model of an item of the PBX's lists, made of the rows of its fields; and what of an item does not fit it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, create_model

from shared.events.data import Data
from shared.events.field_types import ABSENT, AnyIdentifier, AnyInteger, AnyMoment, AnyString, Identifier
from shared.events.model import known_fields
from shared.json_bodies import is_spoilt
from shared.once import once

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.pbx.fields import Field, Shape


def _parts(value: Any) -> Any:
    """A list, also where it was written as an object with the places as names."""
    if isinstance(value, dict) and all(name.isdecimal() for name in value):
        value = list(value.values())
    return [part for part in value if part is not None] if isinstance(value, list) else value


_Parts = Annotated[list[dict[str, Any]] | None, BeforeValidator(_parts), ABSENT]
_TYPES: Mapping[str, Any] = {
    "integer": AnyInteger,
    "string": AnyString,
    "date-time": AnyMoment,
    "array": _Parts,
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
