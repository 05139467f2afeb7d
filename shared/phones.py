"""Phone numbers in one form, E.164, beside the form that they came in."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=4096)
def e164(number: str | None, region: str) -> str | None:
    """The number as E.164 (`+37127771153`), read as dialled in `region`; None when withheld or not a number."""
    if not number:
        return None
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def masked(number: str | None) -> str:
    """The number with all but its last two digits hidden, for logs and screens."""
    return f"…{number[-2:]}" if number and len(number) > 4 else "…"
