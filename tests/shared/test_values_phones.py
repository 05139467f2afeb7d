"""Numbers as people, phones and web pages write them."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api.subscribe import Criteria
from shared.values import NUMBER_PATTERN, PREFIX_PATTERN, cleaned, dialled, e164, plain, spelt
from tests.growth import LINEAR, growth

FULL = "+37127771153"
WRITTEN = (
    "\u202a+371 27771153\u202c",
    "\u200e+371\u200b2777\u200d1153\ufeff",
    "tel:+371-2777-1153",
    "+371\u2011277\u201371153",
    "\u2068 +371 (27) 771.153 \u2069",
    "\u2003\n +371 27771153\u2029",
    "\uff0b\uff13\uff17\uff11\u3000\uff12\uff17\uff17\uff17\uff11\uff11\uff15\uff13",
    "+\u0663\u0667\u0661 27771153",
    "+37127771153;ext=5",
)


@pytest.mark.parametrize("text", WRITTEN, ids=ascii)
def test_invisible_characters_change_no_number(text: str) -> None:
    assert dialled(text) == FULL
    assert e164(text, "LV") == FULL


@pytest.mark.parametrize("text", ["27771153.0", " +37127771153.0 "])
def test_a_fraction_of_nothing_is_no_digit(text: str) -> None:
    assert (e164(text, "LV"), dialled(text)) == (FULL, text.strip().removesuffix(".0"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, ""), ("", ""), (27771153, "27771153"), (27771153.0, "27771153"), ("27771153.0", "27771153")),
        *(("+371 27771153", "+371 27771153"), ("67000.00", "67000.00"), (0.5, None), (1e300, None), (True, None)),
    ],
    ids=repr,
)
def test_a_number_is_its_text_however_it_was_sent(value: Any, text: str | None) -> None:
    assert spelt(value) == text


@pytest.mark.parametrize("text", ["+371 277 71153", "(27) 771-153", "anonymous", "", " +371 1", "*31#27771153"])
def test_plain_text_is_left_alone(text: str) -> None:
    assert cleaned(text) == text.strip(" ")


@pytest.mark.parametrize(
    "text",
    [
        *("\u202a\u202c", "tel:", "+371\u202eabc", "12\u200b", "2777\n1153", "27771153\u202827771154"),
        *("27771153;27771154", "277+71153", "27771153,1", "1234567890123456"),
    ],
    ids=ascii,
)
def test_marks_make_no_number_of_other_text(text: str) -> None:
    with pytest.raises(ValueError, match="a phone number is expected"):
        dialled(text)


# All that number and prefix are made of, what they are not made of, and tel: and parameters as a whole.
SIGNS = "+0123456789 .()-/*#,;:\t\n\r\v\x1c\x85"
OTHERS = "\uff0b\uff11\uff10\uff0e\uff08\uff0d\u0663\u06f7\u0967\u2010\u2212"
MARKS = "\u202a\u202c\u200b\u00ad\ufeff\u061c\u00a0\u202f\u2007\u3000\u1680\u2028\u2016\u2044"
WORDS = ("tel:", "TEL:", "tel", ";ext=1", ";phone-context=x", "37127771153", "112", "00", "x")
PIECES = st.sampled_from((*SIGNS, *OTHERS, *MARKS, *WORDS))
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@given(TEXTS)
def test_the_published_patterns_match_all_accepted_numbers(text: str) -> None:
    for published, read in ((NUMBER_PATTERN, dialled), (PREFIX_PATTERN, lambda text: Criteria(prefix=text))):
        try:
            read(text)
        except ValueError:
            continue
        assert re.search(published, text), text


@pytest.mark.parametrize("text", ["anonymous", "abc", "27771153 x", "tel:anonymous"])
def test_the_published_patterns_refuse_words(text: str) -> None:
    assert not re.search(NUMBER_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+49 (0) 30 1234567", "+49301234567"),
        ("+44 (0)20 7946 0018", "+442079460018"),
        ("+39 06 1234 5678", "+390612345678"),
        ("+39 (0)6 1234 5678", "+390612345678"),
        ("(27) 771 153", "27771153"),
    ],
)
def test_the_number_that_is_dialled_is_the_one_that_is_judged(text: str, number: str) -> None:
    assert dialled(text) == number
    assert number[0] != "+" or e164(text, "LV") in (number, None)


@pytest.mark.slow
@pytest.mark.parametrize("part", [" ", "(", "\u202a", "\t", "0 ", "tel:", "+", ";a"])
@pytest.mark.parametrize(
    "read", [cleaned, plain, partial(re.search, NUMBER_PATTERN), partial(re.search, PREFIX_PATTERN)]
)
def test_a_long_text_takes_as_long_as_it_is(part: str, read: Any) -> None:
    assert growth(lambda size: read(part * size + "x")) < LINEAR


def test_national_numbers_belong_to_their_region() -> None:
    assert (e164("27771153", "LV"), e164("\u202a27771153", "LV")) == (FULL, FULL)
    assert e164("anonymous", "LV") is None
    assert e164(None, "LV") is None
