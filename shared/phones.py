"""Phone numbers in one form, E.164, beside the form that they came in."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shared.identifiers import LARGEST_EXACT_FLOAT

if TYPE_CHECKING:
    from collections.abc import Mapping

# Marks of writing direction, joiners and soft hyphens: phones and web pages put them around numbers, nobody sees them.
_UNSEEN = re.compile(r"[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_SPACE = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_DASH = re.compile(r"[\u2010-\u2015\u2212\uff0d]")
# Digits and signs that other keyboards type, and what they stand for: Arabic, Persian, full width.
_TYPED: Mapping[int, str] = {0xFF0B: "+", 0xFF08: "(", 0xFF09: ")", 0xFF0E: "."} | {
    first + digit: str(digit) for first in (0x0660, 0x06F0, 0xFF10) for digit in range(10)
}
_PARAMETERS = re.compile(r";[A-Za-z].*", re.DOTALL)
# What may stand around a number: blanks of any kind, and what may stand inside.
_AROUND = " .()-\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
_INSIDE = re.compile(r"[ .()-]+")
_NUMBER = re.compile(r"\+?[0-9]{3,15}", re.ASCII)
# What a spreadsheet, or a sender that keeps numbers as such, makes of one: no group of a number is a single zero.
_WITH_FRACTION = re.compile(r"\+?[0-9]{3,15}\.0", re.ASCII)

# The same for the definition, in escapes that engines of all languages read.
_PLUS, _DIGIT = r"[+\uff0b]", r"[0-9\u0660-\u0669\u06f0-\u06f9\uff10-\uff19]"
_FILLER = (
    r" .()\u00a0\u00ad\u061c\u1680\u180e\u2000-\u2015\u202a-\u202f\u205f-\u206f\u2212"
    r"\u3000\ufeff\uff08\uff09\uff0d\uff0e-"
)
_BLANK = rf"[\s{_FILLER}]*"
_TEL = re.compile(f"{_BLANK}tel:", re.IGNORECASE)


def _pattern(begin: str, digits: str) -> str:
    """What `plain` takes, with so many digits after the first; no two neighbours begin alike, so that it is linear."""
    number = f"(?:{begin})?{_DIGIT}(?:[{_FILLER}]*{_DIGIT}){{{digits}}}"
    return f"^{_BLANK}(?:[Tt][Ee][Ll]:{_BLANK})?{number}{_BLANK}(?:;[A-Za-z].*)?$"


NUMBER_PATTERN = _pattern(f"{_PLUS}[{_FILLER}]*", "2,14")
PREFIX_PATTERN = _pattern(f"{_PLUS}[{_FILLER}]*|" + rf"[0\u0660\u06f0\uff10][{_FILLER}]*" * 2, "0,14")


def spelt(value: Any) -> str | None:
    """
    A number as the PBX sent it, as text: empty where it is withheld, None where it is neither text nor a number.

    A sender that keeps numbers as such may write a fraction of nothing behind one: `27771153.0` is `27771153`.
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
    """The text of a number without invisible marks, `tel:` and its parameters; with plain spaces, dashes and digits."""
    link = _TEL.match(text)
    text = _PARAMETERS.sub("", text[link.end() :] if link else text)
    text = _DASH.sub("-", _SPACE.sub(" ", _UNSEEN.sub("", text))).translate(_TYPED).strip()
    return text.removesuffix(".0") if _WITH_FRACTION.fullmatch(text) else text


def plain(text: str) -> str:
    """The same without what may stand around and inside a number: spaces, dashes, dots and brackets."""
    return _INSIDE.sub("", cleaned(text).strip(_AROUND))


@lru_cache(maxsize=4096)
def e164(number: str | None, region: str) -> str | None:
    """The number as E.164 (`+37127771153`), read as dialled in `region`; None when withheld or not a number."""
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
    """The digits of a number that somebody wrote, with the plus where there is one; raises ValueError for any other."""
    number = plain(text)
    if not _NUMBER.fullmatch(number):
        raise ValueError("a phone number is expected: 3 to 15 digits, with or without a plus")
    return number
