"""Phone numbers in one form, E.164, beside the form that they came in."""

from __future__ import annotations

import re
from functools import lru_cache

# Three to fifteen digits; people write them with spaces, dashes, dots and brackets.
NUMBER_PATTERN = r"^(?: *\+)?[ .()-]*[0-9](?:[ .()-]*[0-9]){2,14}[ .()-]*$"
_NUMBER = re.compile(NUMBER_PATTERN[:-1] + r"\Z")
# Marks of writing direction, joiners and soft hyphens: phones and web pages put them around numbers, nobody sees them.
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_TEL = re.compile(r"\s*tel:([^;]*)", re.IGNORECASE)


def cleaned(text: str) -> str:
    """The text of a number without invisible marks and `tel:`, with plain spaces and dashes; digits stay."""
    text = _DASHES.sub("-", _SPACES.sub(" ", _INVISIBLE.sub("", text)))
    link = _TEL.match(text)
    return (link[1] if link else text).strip(" ")


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


def masked(number: str | None) -> str:
    """The number with all but its last two digits hidden, for logs and screens."""
    return f"…{number[-2:]}" if number and len(number) > 4 else "…"


def dialled(text: str) -> str:
    """The digits of a number that somebody wrote, with the plus where there is one; raises ValueError for any other."""
    text = cleaned(text)
    if not _NUMBER.match(text):
        raise ValueError("a phone number is expected: 3 to 15 digits, with or without a plus")
    digits = re.sub(r"[^0-9]", "", text)
    return f"+{digits}" if "+" in text else digits
