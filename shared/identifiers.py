"""Identifiers, read alike wherever one comes from: an event, a list, an answer or a parameter."""

from __future__ import annotations

import re
from typing import Any

# Identifiers go far past 32 bits; a table's column and a row key hold as much.
LARGEST_ID = 2**63 - 1
# Above it, a number with a fraction may stand for another whole number than the one that was meant.
LARGEST_EXACT_FLOAT = 2**53
_DIGITS = re.compile(r"0*([0-9]{1,19})(?:\.0+)?", re.ASCII)


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
