"""Numbers as people, phones and web pages write them."""

from __future__ import annotations

import pytest

from shared.phones import cleaned, dialled, e164, masked

FULL = "+37127771153"
WRITTEN = (
    "\u202a+371 27771153\u202c",
    "\u2066+37127771153\u2069",
    "\u200e+371\u200b2777\u200d1153\ufeff",
    "+371\u00a027\u202f77\u20071153",
    "tel:+371-2777-1153",
    "TEL:+37127771153;ext=5",
    "\u202atel:+37127771153\u202c",
    "+371\u2011277\u201371153",
    "+371\u00ad27771153",
    "\u2068 +371 (27) 771.153 \u2069",
)


@pytest.mark.parametrize("text", WRITTEN, ids=ascii)
def test_what_nobody_sees_changes_no_number(text: str) -> None:
    assert dialled(text) == FULL
    assert e164(text, "LV") == FULL


@pytest.mark.parametrize(
    "text",
    ["27771153", "+371 277 71153", "(27) 771-153", "anonymous", "", " +371 1", "teller", "*31#27771153"],
)
def test_plain_text_is_left_alone(text: str) -> None:
    assert cleaned(text) == text.strip(" ")


@pytest.mark.parametrize(
    "text", ["\u202a\u202c", "tel:", "tel:;ext=1", "+371\u202eabc", "12\u200b", "tel:tel:27771153", "2777\n1153"]
)
def test_marks_make_no_number_of_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="a phone number is expected"):
        dialled(text)


def test_national_numbers_belong_to_their_region() -> None:
    assert (e164("27771153", "LV"), e164("\u202a27771153", "LV")) == (FULL, FULL)
    assert e164("anonymous", "LV") is None
    assert e164(None, "LV") is None


def test_logs_show_two_digits() -> None:
    assert (masked(FULL), masked("12"), masked(None)) == ("…53", "…", "…")
