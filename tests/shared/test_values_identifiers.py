"""Identifiers are numbers, however written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.values import LARGEST_ID, identifier

IDS = st.integers(0, LARGEST_ID)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(number=IDS, zeros=st.integers(0, 5_000), before=st.text(" \t\r\n\u00a0"), after=st.text(" \t\r\n\u00a0"))
def test_a_number_as_text_is_that_number_however_it_is_padded(number: int, zeros: int, before: str, after: str) -> None:
    assert identifier(number) == number
    assert identifier(f"{before}{'0' * zeros}{number}{after}") == number
    assert identifier(f"{number}.00") == number


@given(st.integers(0, 2**53))
def test_a_whole_float_is_its_number(number: int) -> None:
    assert identifier(float(number)) == number


@given(ANYTHING)
def test_anything_is_an_identifier_or_none(value: Any) -> None:
    found = identifier(value)
    assert found is None or (type(found) is int and 0 <= found <= LARGEST_ID)
    if isinstance(value, bool | list | dict) or value is None:
        assert found is None
    if type(value) is int:
        assert found == (value if 0 <= value <= LARGEST_ID else None)


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, "", " ", "x", 1.5, -1, -1.0, float("nan"), float("inf"), 2.0**60, LARGEST_ID + 1),
        *("-5", "+371", "1e3", "1 000", "1_000", "0x1F", "1.5", "1.", ".0", "٩٧١", "９７１", "9" * 20, "9" * 5_000),
        *([], [971], {}, {"id": 971}, "971,972"),
    ],
)
def test_invalid_identifiers_are_none(value: Any) -> None:
    assert identifier(value) is None
