"""Which events a subscriber wants: the filter of a subscription, checked when it is made and asked for each event."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from shared.identifiers import LARGEST_ID, identifier
from shared.phones import dialled, e164, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.events.event import ReceivedEvent

_PREFIX = re.compile(r"(?:\+|00)?[0-9]{1,15}", re.ASCII)


def _whole(value: Any) -> Any:
    """A whole number also where a text spells it, which is what an expression between other words yields."""
    number = identifier(value)
    return value if number is None else number


Number = Annotated[str, AfterValidator(dialled)]
ContactId = Annotated[int, Field(ge=1, le=LARGEST_ID, strict=True), BeforeValidator(_whole)]
_NUMBERS = ("caller", "destination")


class Criteria(BaseModel):
    """A filter: an event has to meet every part of it that is there."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    direction: Literal["in", "out"] | None = None
    contact_id: ContactId | None = None
    caller: Number | None = None
    destination: Number | None = None
    prefix: str | None = None

    @field_validator("prefix")
    @classmethod
    def _digits(cls, text: str | None) -> str | None:
        if text is None:
            return None
        begin = plain(text)
        if not _PREFIX.fullmatch(begin):
            raise ValueError("how a phone number begins is expected, such as +371")
        return f"+{begin[2:]}" if begin.startswith("00") else begin

    def to_dict(self, region: str) -> dict[str, Any]:
        """The parts that are there, as JSON; numbers in E.164, as dialled in `region`: equal requests are equal."""
        given = self.model_dump(exclude_none=True)
        return given | {name: e164(given[name], region) or given[name] for name in _NUMBERS if name in given}


NAMES = tuple(Criteria.model_fields)


@dataclass(frozen=True, slots=True)
class Numbers:
    """A phone number in the ways that one can ask for it."""

    sent: str | None
    full: str | None
    national: str | None

    @classmethod
    def of(cls, number: str | None, region: str) -> Numbers:
        """The number as it was sent, in E.164, and as it is dialled in its own country."""
        full = e164(number, region)
        code = _country(region)
        national = full.removeprefix(code) if full and full.startswith(code) else None
        return cls(number, full, national)

    def is_same(self, wanted: str, region: str) -> bool:
        """Whether it is the wanted one, however the two are written."""
        full = e164(wanted, region)
        return self.sent is not None and (self.sent == wanted or (full is not None and self.full == full))

    def begins(self, prefix: str) -> bool:
        """Whether it begins so: from the plus on, or without one as it is dialled at home."""
        ways = (self.full, self.full and self.full[1:], self.national)
        return any(way is not None and way.startswith(prefix) for way in ways)


def _country(region: str) -> str:
    import phonenumbers

    return f"+{phonenumbers.country_code_for_region(region)}"


def _direction(event: ReceivedEvent, wanted: str, region: str) -> bool:
    return bool(getattr(event.data, "direction", None) == wanted)


def _contact(event: ReceivedEvent, wanted: int, region: str) -> bool:
    return bool(getattr(event.data, "contactID", None) == wanted)


def _caller(event: ReceivedEvent, wanted: str, region: str) -> bool:
    return Numbers.of(event.caller, region).is_same(wanted, region)


def _destination(event: ReceivedEvent, wanted: str, region: str) -> bool:
    return Numbers.of(getattr(event.data, "destination", None), region).is_same(wanted, region)


def _begins(event: ReceivedEvent, wanted: str, region: str) -> bool:
    numbers = (event.caller, getattr(event.data, "destination", None))
    return any(Numbers.of(number, region).begins(wanted) for number in numbers)


TESTS: Mapping[str, Callable[[ReceivedEvent, Any, str], bool]] = {
    "direction": _direction,
    "contact_id": _contact,
    "caller": _caller,
    "destination": _destination,
    "prefix": _begins,
}


def meets(event: ReceivedEvent, wanted: Mapping[str, Any], region: str) -> bool:
    """Whether an event is wanted; one that lacks a field that is asked for is not."""
    return all(TESTS[name](event, value, region) for name, value in wanted.items())
