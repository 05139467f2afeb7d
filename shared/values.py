"""Values as others spell them: phone numbers, identifiers, JSON bodies, and the models of those bodies."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from shared.errors import BODY_TOO_LARGE, INVALID_JSON, Invalid, Refused

if TYPE_CHECKING:
    from pydantic import BaseModel

# Loose on purpose: it forbids letters except those of a link, and the app itself reads the rest.
NUMBER_PATTERN = PREFIX_PATTERN = r"^[^A-Za-z]*(?:[Tt][Ee][Ll]:[^A-Za-z]+)?(?:;[A-Za-z][\s\S]*)?$"
# The fewest digits of a number, which the pattern cannot express.
FEWEST_DIGITS = 3
_NUMBER = re.compile(r"\+?[0-9]{3,15}", re.ASCII)
# A number as a spreadsheet, or a sender of JSON numbers, writes it: no group of a number is a single zero.
_WITH_FRACTION = re.compile(r"\+?[0-9]{3,15}\.0", re.ASCII)
_TEL = re.compile(r"[\s.()-]*tel:", re.IGNORECASE)
_PARAMETERS = re.compile(r";[A-Za-z].*", re.DOTALL)
# Separators within a number, with the dashes of other scripts.
_INSIDE = re.compile(r"[ .()\-\u2010-\u2015\u2212]+")

# Identifiers go far past 32 bits; a table's column and a row key hold as much.
LARGEST_ID = 2**63 - 1
# A larger float may be another whole number than the one that was sent.
LARGEST_EXACT_FLOAT = 2**53
_DIGITS = re.compile(r"0*([0-9]{1,19})(?:\.0+)?", re.ASCII)

LONGEST_BODY = 64 * 1024
# The largest float has 309.
_MOST_DIGITS = 300
# Storage, subscribers and our own code read no deeper: deeper values are kept as text.
DEEPEST = 32
# Replaces a character that cannot be read.
SPOILT = "\ufffd"
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

Model = TypeVar("Model", bound="BaseModel")
# Reasons in place of pydantic's own, which would name our classes.
_REASONS: Mapping[str, str] = {
    "missing": "it is required",
    **dict.fromkeys(("model_type", "dict_type"), "an object is expected"),
    "string_type": "a text is expected",
    "string_too_short": "it is empty",
    "string_too_long": "at most {max_length} characters are expected",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number is expected"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false is expected"),
    "greater_than_equal": "at least {ge} is expected",
    "less_than_equal": "at most {le} is expected",
    "literal_error": "{expected} is expected",
    "extra_forbidden": "no such field",
}


def spelt(value: Any) -> str | None:
    """
    Return a phone number from JSON as text: empty if it is withheld, None if it is neither text nor a number.

    A sender of JSON numbers may add an empty fraction: `27771153.0` is `27771153`.
    """
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT_FLOAT:
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text.strip().removesuffix(".0") if _WITH_FRACTION.fullmatch(text.strip()) else text


def cleaned(text: str) -> str:
    """Return the text of a number without invisible marks, with ASCII digits, no `tel:` and none of its parameters."""
    if not text.isascii():
        letters = unicodedata.normalize("NFKC", text)
        text = "".join(str(unicodedata.decimal(sign, sign)) for sign in letters if unicodedata.category(sign) != "Cf")
    link = _TEL.match(text)
    text = _PARAMETERS.sub("", text[link.end() :] if link else text).strip()
    return text.removesuffix(".0") if _WITH_FRACTION.fullmatch(text) else text


def plain(text: str) -> str:
    """Return the cleaned text without separators: spaces, dashes, dots and brackets."""
    return _INSIDE.sub("", cleaned(text))


@lru_cache(maxsize=4096)
def e164(number: str | None, region: str) -> str | None:
    """Return the number as E.164 (`+37127771153`), read as dialled in `region`; None when withheld or not a number."""
    if not number:
        return None
    import phonenumbers

    try:
        parsed = phonenumbers.parse(cleaned(number), region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def dialled(text: str) -> str:
    """
    Return the digits of a written number, with its plus if it has one; raise ValueError if it is no number.

    An international number has the form that is judged and dialled: `+49 (0) 30 1234567` loses its zero.
    """
    number = plain(text)
    if not _NUMBER.fullmatch(number):
        raise ValueError("a phone number is expected: 3 to 15 digits, with or without a plus")
    international = re.sub("^00(?=[1-9])", "+", number)
    return (e164(international, "ZZ") if international[0] == "+" else None) or number


def identifier(value: Any) -> int | None:
    """
    Return the identifier that a value spells, 0 to LARGEST_ID, or None.

    A whole number is one however it is written: `971`, `971.0`, `"971"`, `" 000971 "`, `"971.0"`. A fraction, a
    sign, an exponent in text, a boolean, a list and an object are none, and so is a float too large to be exact.
    """
    if isinstance(value, str):
        digits = _DIGITS.fullmatch(value.strip())
        value = int(digits[1]) if digits else None
    elif isinstance(value, float):
        value = int(value) if 0 <= value <= LARGEST_EXACT_FLOAT and value.is_integer() else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= LARGEST_ID else None


def encode(value: Any) -> bytes:
    """Return compact JSON in UTF-8, with whole numbers exact."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def parse_body(body: bytes, *, odd_numbers: bool = False) -> Any:
    """
    Return the JSON of a request's or an answer's body, in which each character that cannot be read is SPOILT (U+FFFD).

    Those are bytes that are not of the text's encoding (UTF-8, or UTF-16 or 32, with or without a byte order mark),
    half characters, and bare control characters but for tabs and line ends. A value below 32 levels becomes its text.
    Numbers that nothing can hold (NaN, infinities, 1e400, more than 300 digits) become texts with `odd_numbers`,
    and are refused without. Raises Refused for anything but JSON, bottomless nesting included.
    """
    odd: Callable[[str], Any] = str if odd_numbers else _no_constant
    numbers: dict[str, Any] = {
        "parse_int": lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else odd(digits),
        "parse_float": lambda digits: number if math.isfinite(number := float(digits)) else odd(digits),
        "parse_constant": odd,
    }
    try:
        text = body.decode(json.detect_encoding(body), "replace").strip("\0\ufeff")
        value = json.loads(_CONTROLS.sub(SPOILT, text), strict=False, **numbers)
        try:
            encode(value)
        except UnicodeEncodeError:
            # Half of a pair of surrogates, which JSON can spell and UTF-8 cannot.
            half = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
            value = json.loads(half.decode("utf-16-le", "replace"), **numbers)
        return _shallow(value, DEEPEST)
    except (ValueError, RecursionError) as error:
        raise Refused(INVALID_JSON) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name[:20]} is not JSON")


def _shallow(value: Any, levels: int) -> Any:
    if not isinstance(value, (dict, list)) or not value:
        return value
    if levels == 0:
        return encode(value).decode()
    if isinstance(value, list):
        return [_shallow(part, levels - 1) for part in value]
    return {name: _shallow(part, levels - 1) for name, part in value.items()}


def is_spoilt(value: Any) -> bool:
    """Return True if a character of a value could not be read, here or on the way to us."""
    return SPOILT in json.dumps(value, ensure_ascii=False)


def read_body(model: type[Model], body: bytes, context: Mapping[str, Any] | None = None) -> Model:
    """
    Return the model of a body of JSON; `context` is for the model's validators.

    Raises Refused for a body over 64 KiB or without JSON, and Invalid as `validated` does.
    """
    if len(body) > LONGEST_BODY:
        raise Refused(BODY_TOO_LARGE)
    return validated(model, parse_body(body), context)


def validated(model: type[Model], value: Any, context: Mapping[str, Any] | None = None) -> Model:
    """Return the model of a value; raise Invalid with the paths of the fields that do not fit, and why."""
    from pydantic import ValidationError

    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    wrong: dict[str, str] = {}
    for detail in details:
        path = ".".join(map(str, detail["loc"])) or "body"
        reason = _REASONS.get(detail["type"], "").format_map(detail.get("ctx", {}))
        wrong[path] = reason or detail["msg"].removeprefix("Value error, ")
    raise Invalid(wrong)
