"""The filter of a subscription, checked when it is made and applied to each event."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from shared.identifiers import LARGEST_ID, identifier
from shared.phones import dialled, e164, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.events.event import ReceivedEvent

_PREFIX = re.compile(r"(?:\+|00)?[0-9]{1,15}", re.ASCII)


def _whole(value: Any) -> Any:
    """Return a whole number for a text that spells one, as an expression in a flow yields it."""
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
            raise ValueError("the beginning of a phone number is expected, such as +371")
        return f"+{begin[2:]}" if begin.startswith("00") else begin

    def to_dict(self, region: str) -> dict[str, Any]:
        """Return the parts that are there, as JSON; numbers in E.164, so that equal requests are equal."""
        given = self.model_dump(exclude_none=True)
        return given | {name: e164(given[name], region) or given[name] for name in _NUMBERS if name in given}


NAMES = tuple(Criteria.model_fields)


def _is_same(number: str | None, wanted: str, region: str) -> bool:
    full = e164(wanted, region)
    return number is not None and (number == wanted or (full is not None and e164(number, region) == full))


def _begins(number: str | None, prefix: str, region: str) -> bool:
    """Return True if a number begins so, with its country code or as it is dialled at home."""
    import phonenumbers

    full, code = e164(number, region), f"+{phonenumbers.country_code_for_region(region)}"
    return full is not None and any(way.startswith(prefix) for way in (full, full[1:], full.removeprefix(code)))


TESTS: Mapping[str, Callable[[ReceivedEvent, Any, str], bool]] = {
    "direction": lambda event, wanted, _: event.data.get("direction") == wanted,
    "contact_id": lambda event, wanted, _: event.data.get("contactID") == wanted,
    "caller": lambda event, wanted, region: _is_same(event.caller, wanted, region),
    "destination": lambda event, wanted, region: _is_same(event.data.get("destination"), wanted, region),
    "prefix": lambda event, wanted, region: (
        _begins(event.caller, wanted, region) or _begins(event.data.get("destination"), wanted, region)
    ),
}


def meets(event: ReceivedEvent, wanted: Mapping[str, Any], region: str) -> bool:
    """Return True if the event meets all parts of a filter; one that lacks a field does not meet it."""
    return all(TESTS[name](event, value, region) for name, value in wanted.items())
