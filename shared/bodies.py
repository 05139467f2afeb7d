"""Bodies of requests, read into the model that says what they may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import FieldError, Invalid, TooLarge
from shared.parameters import LONGEST_BODY
from shared.parsing import parse_body

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

# In the words that parameters are refused with, where pydantic's own would name our classes.
_WORDS: Mapping[str, str] = {
    "missing": "it is required",
    "model_type": "an object is expected",
    "string_type": "a text is expected",
    "string_too_short": "it is empty",
}


def read_body(model: type[Model], body: bytes, context: Mapping[str, Any] | None = None) -> Model:
    """
    The model that a body of JSON spells; `context` is for the model's validators.

    Raises TooLarge over 64 KiB, NotJson, or Invalid with the paths of the fields that do not fit, and why.
    """
    if len(body) > LONGEST_BODY:
        raise TooLarge("the body is over 64 KiB")
    try:
        return model.model_validate(parse_body(body), context=dict(context or {}))
    except ValidationError as error:
        raise Invalid(_fields(error)) from None


def _reason(detail: ErrorDetails) -> str:
    return _WORDS.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")


def _fields(error: ValidationError) -> tuple[FieldError, ...]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return tuple(FieldError(".".join(map(str, detail["loc"])) or "body", _reason(detail)) for detail in details)
