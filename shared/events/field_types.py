"""How the fields of events are read: what is required is refused where it does not fit, all else is absent then."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from shared.identifiers import LARGEST_ID, identifier
from shared.phones import spelt
from shared.times import LONGEST_CALL, event_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def _moment(value: Any) -> datetime:
    moment = event_time(value)
    if moment is None:
        raise ValueError("a time is expected")
    return moment


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
AnyIdentifier = Annotated[int | None, BeforeValidator(_identifier), ABSENT]
AnyInteger = Annotated[int | None, BeforeValidator(_integer), Field(ge=-(2**63), le=LARGEST_ID), ABSENT]
AnySeconds = Annotated[int | None, BeforeValidator(_integer), Field(ge=0, le=_LONGEST_SECONDS), ABSENT]
AnyMoment = Annotated[datetime | None, BeforeValidator(_moment), ABSENT]
_Short = Annotated[str, Field(max_length=_LONGEST_NUMBER)]
AnyText = Annotated[_Short | None, BeforeValidator(_text), ABSENT]
AnyPhone = Annotated[_Short | None, BeforeValidator(_phone), ABSENT]
# What identifies: empty where it is withheld, and refused where it is no text.
Phone = Annotated[_Short | None, BeforeValidator(_phone)]
AnyString = Annotated[str | None, BeforeValidator(_text), ABSENT]


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say something: `""` and null mean absent."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, str) and not value.strip())
    }
