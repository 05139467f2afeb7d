"""JSON bodies, read and written: whole characters and finite numbers only, so that they can be stored and sent on."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from shared.errors import BODY_TOO_LARGE, INVALID_JSON, Invalid, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")

LONGEST_BODY = 64 * 1024
# The largest number that others can hold has 309.
_MOST_DIGITS = 300
# Storage, subscribers and our own code read no deeper: what lies below is kept as its text.
DEEPEST = 32
# What stands for a character that cannot be read.
SPOILT = "\ufffd"
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
# In the words that parameters are refused with, where pydantic's own would name our classes.
_WORDS: Mapping[str, str] = {
    "missing": "it is required",
    "model_type": "an object is expected",
    "dict_type": "an object is expected",
    "string_type": "a text is expected",
    "string_too_short": "it is empty",
}


def encode(value: Any) -> bytes:
    """Return compact JSON in UTF-8, with whole numbers exact."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def parse_body(body: bytes, *, odd_numbers: bool = False) -> Any:
    """
    Return the JSON of a request's or an answer's body, in which each character that cannot be read is SPOILT (U+FFFD).

    Those are bytes that are not of the text's encoding (UTF-8, or UTF-16 or 32, with or without a byte order mark),
    half characters, and bare control characters but for tabs and line ends. Numbers that nothing can hold (NaN,
    infinities, 1e400, more than 300 digits) are their texts with `odd_numbers`, and so is what lies over 32 levels
    deep. Raises Refused for anything else: without `odd_numbers`, such numbers, and bottomless nesting included.
    """
    try:
        text = body.decode(json.detect_encoding(body), "replace").strip("\0\ufeff")
        return _value(_CONTROLS.sub(SPOILT, text), str if odd_numbers else _no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(INVALID_JSON) from error


def is_spoilt(value: Any) -> bool:
    """Return True if a character of a value could not be read, here or on the way to us."""
    return SPOILT in json.dumps(value, ensure_ascii=False)


def _value(text: str, odd: Callable[[str], Any]) -> Any:
    numbers: dict[str, Any] = {
        "parse_int": lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else odd(digits),
        "parse_float": lambda digits: number if math.isfinite(number := float(digits)) else odd(digits),
        "parse_constant": odd,
    }
    value = json.loads(text, strict=False, **numbers)
    try:
        encode(value)
    except UnicodeEncodeError:
        # Half of a pair of surrogates, which JSON can spell and UTF-8 cannot.
        half = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
        value = json.loads(half.decode("utf-16-le", "replace"), **numbers)
    return _shallow(value, DEEPEST)


def _shallow(value: Any, levels: int) -> Any:
    if not isinstance(value, (dict, list)) or not value:
        return value
    if levels == 0:
        return encode(value).decode()
    if isinstance(value, list):
        return [_shallow(one, levels - 1) for one in value]
    return {name: _shallow(one, levels - 1) for name, one in value.items()}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name[:20]} is not JSON")


def read_body(model: type[Model], body: bytes, context: Mapping[str, Any] | None = None) -> Model:
    """
    Return the model of a body of JSON; `context` is for the model's validators.

    Raises Refused for a body over 64 KiB or no JSON, and Invalid with the paths of the fields that do not fit, and why.
    """
    if len(body) > LONGEST_BODY:
        raise Refused(BODY_TOO_LARGE)
    return validated(model, parse_body(body), context=context)


def validated(
    model: type[Model], value: Any, *, at: tuple[str, ...] = (), context: Mapping[str, Any] | None = None
) -> Model:
    """Return the model of a value at a path; raise Invalid with the paths of the fields that do not fit."""
    from pydantic import ValidationError

    try:
        return model.model_validate(value, context=dict(context or {}))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    wrong: dict[str, str] = {}
    for detail in details:
        path = ".".join([*at, *map(str, detail["loc"])])
        wrong[path or "body"] = _WORDS.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")
    raise Invalid(wrong)
