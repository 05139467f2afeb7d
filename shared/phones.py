"""Phone numbers in one form, E.164, beside the form that they came in."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

from shared.identifiers import LARGEST_EXACT_FLOAT

_PARAMETERS = re.compile(r";[A-Za-z].*", re.DOTALL)
# What may stand inside a number, the dashes of other scripts too.
_INSIDE = re.compile(r"[ .()\-\u2010-\u2015\u2212]+")
_NUMBER = re.compile(r"\+?[0-9]{3,15}", re.ASCII)
# What a spreadsheet, or a sender that keeps numbers as such, makes of one: no group of a number is a single zero.
_WITH_FRACTION = re.compile(r"\+?[0-9]{3,15}\.0", re.ASCII)
_TEL = re.compile(r"[\s.()-]*tel:", re.IGNORECASE)
# Loose on purpose: no letters but those of a link. The app itself reads what is left.
NUMBER_PATTERN = PREFIX_PATTERN = r"^[^A-Za-z]*(?:[Tt][Ee][Ll]:[^A-Za-z]+)?(?:;[A-Za-z][\s\S]*)?$"
# Of a number, as its pattern cannot say.
FEWEST_DIGITS = 3


def spelt(value: Any) -> str | None:
    """
    Return a number as the PBX sent it, as text: empty where it is withheld, None where it is neither text nor a number.

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
    """Return the text of a number without invisible marks, with ASCII digits, no `tel:` and none of its parameters."""
    if not text.isascii():
        letters = unicodedata.normalize("NFKC", text)
        text = "".join(str(unicodedata.decimal(one, one)) for one in letters if unicodedata.category(one) != "Cf")
    link = _TEL.match(text)
    text = _PARAMETERS.sub("", text[link.end() :] if link else text).strip()
    return text.removesuffix(".0") if _WITH_FRACTION.fullmatch(text) else text


def plain(text: str) -> str:
    """Return the same without what may stand inside a number: spaces, dashes, dots and brackets."""
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
    Return the digits of a number that somebody wrote, with the plus where there is one; raise ValueError for any other.

    An international number is in the form that is judged and dialled: of `+49 (0) 30 1234567` the zero is left out.
    """
    number = plain(text)
    if not _NUMBER.fullmatch(number):
        raise ValueError("a phone number is expected: 3 to 15 digits, with or without a plus")
    international = re.sub("^00(?=[1-9])", "+", number)
    return (e164(international, "ZZ") if international[0] == "+" else None) or number
