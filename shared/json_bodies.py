"""JSON bodies, read and written: whole characters and finite numbers only, so that they can be stored and sent on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from shared.errors import FieldError, Invalid, NotJson, TooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound="BaseModel")

LONGEST_BODY = 64 * 1024
# In the words that parameters are refused with, where pydantic's own would name our classes.
_WORDS: Mapping[str, str] = {
    "missing": "it is required",
    "model_type": "an object is expected",
    "string_type": "a text is expected",
    "string_too_short": "it is empty",
}


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8, with whole numbers exact."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def parse_body(body: bytes) -> Any:
    """
    The JSON of a request's or an answer's body, of which half characters are replaced.

    Raises NotJson for anything else: NaN, numbers beyond all bounds and bottomless nesting included.
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
        try:
            encode(value)
        except UnicodeEncodeError:
            text = _well_formed(json.dumps(value, ensure_ascii=False))
            value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotJson("the body is not JSON") from error
    return value


def _well_formed(text: str) -> str:
    """The text without half of a pair of surrogates, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_body(model: type[Model], body: bytes, context: Mapping[str, Any] | None = None) -> Model:
    """
    The model that a body of JSON spells; `context` is for the model's validators.

    Raises TooLarge over 64 KiB, NotJson, or Invalid with the paths of the fields that do not fit, and why.
    """
    from pydantic import ValidationError

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
