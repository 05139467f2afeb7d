"""Dial rules: premium-rate numbers, countries that are not allowed, and the hourly limit."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import phonenumbers
import pytest

from shared.api.actions import ABROAD, EMERGENCY, IMPOSSIBLE, PREMIUM, SATELLITE, act, refused
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.errors import Invalid
from shared.pbx.operations import operation


def examples(*kinds: int) -> Iterator[tuple[str, str, str, str]]:
    """Region, E.164, national number and what is dialled before it, of each region's example of these kinds."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in kinds:
            number = phonenumbers.example_number_for_type(region, kind)
            if number:
                full = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
                national = phonenumbers.national_significant_number(number)
                yield region, full, national, phonenumbers.ndd_prefix_for_region(region, True) or ""


def is_ordinary(number: str, region: str) -> bool:
    """Return True if a number is valid and not premium-rate."""
    parsed = phonenumbers.parse(number, region)
    kind = phonenumbers.number_type(parsed)
    return phonenumbers.is_valid_number(parsed) and kind != phonenumbers.PhoneNumberType.PREMIUM_RATE


@pytest.mark.slow
def test_premium_rate_numbers_of_all_regions_are_not_dialled_in_near_spellings() -> None:
    passed, asked = [], 0
    for region, full, national, trunk in examples(phonenumbers.PhoneNumberType.PREMIUM_RATE):
        code = full.removesuffix(national)
        abroad = (full, f"00{full[1:]}", f"+0{full[1:]}", f"{code}0{national}", f"00{code[1:]}0{national}")
        abroad += (f"{code}00{national}", f"{full}1", f"{full}12")
        at_home = (full, f"{code}0{national}", f"00{full[1:]}", f"0{national}" if trunk == "0" else full)
        spelled = [(number, "LV") for number in abroad] + [(number, region) for number in at_home]
        asked += len(spelled)
        passed += [each for each in spelled if refused(*each, ()) is None and not is_ordinary(*each)]
    assert asked > 1500
    # Trunk digits other than 0, which a network may leave out.
    assert len(passed) <= 3


@pytest.mark.slow
def test_ordinary_numbers_of_all_regions_are_dialled() -> None:
    kinds = phonenumbers.PhoneNumberType
    stopped, asked = [], 0
    for region, full, national, _ in examples(kinds.FIXED_LINE, kinds.MOBILE, kinds.TOLL_FREE, kinds.VOIP):
        number = phonenumbers.parse(full)
        usual = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        digits = "".join(filter(str.isdigit, usual))
        spelled = [(full, "LV"), (f"00{full[1:]}", "LV"), (full[1:], "LV"), (full, region), (digits, region)]
        asked += len(spelled)
        stopped += [each for each in spelled if refused(*each, ())]
        assert national
    assert asked > 3000
    assert stopped == []


@pytest.mark.parametrize(
    ("region", "reason", "numbers"),
    [
        ("LV", PREMIUM, "+37190000000 0037190000000 +0037190000000 37190000000 371900000001 90000000 900000001"),
        ("LV", PREMIUM, "+979123456789 +371090000000 090000000"),
        ("JP", PREMIUM, "0081990123456"),
        ("LV", SATELLITE, "881612345678 +881612345678 00881612345678 +870773111632 +882360123456 +8830123456789"),
        ("LV", EMERGENCY, "112 110 +112 0112 00112 112112 1120 1121234567 +371112 00371112 371112 +3710112"),
        ("DE", EMERGENCY, "0112 +49112"),
        ("US", EMERGENCY, "911 +1911 9110"),
        ("GB", EMERGENCY, "999 +44999"),
        ("LV", None, "27771153 +37127771153 67000123 80000000 +442071838750 0046812345678 101 116111 1188 1001"),
        # Ordinary numbers that begin as an emergency one.
        ("LT", None, "031234567"),
        ("SE", None, "+46112345678 0112345678"),
        ("FR", None, "+15125550123 0153001234"),
        ("KZ", None, "+77112345678"),
    ],
)
def test_costly_and_emergency_numbers_are_not_dialled_in_any_spelling(
    region: str, reason: str | None, numbers: str
) -> None:
    assert {number: refused(number, region, ()) for number in numbers.split()} == dict.fromkeys(numbers.split(), reason)


@pytest.mark.parametrize(
    ("countries", "reason", "numbers"),
    [
        ("LV", None, "27771153 0037127771153 101"),
        ("LV LT", None, "+37127771153 +37061234567"),
        ("LV", ABROAD, "+37061234567 0037061234567 37061234567"),
        ("LT", ABROAD, "27771153 101"),
        # Others share their country code.
        ("US", None, "+12015550123"),
        ("US", ABROAD, "+12423456789"),
        ("GB", ABROAD, "+447624123456"),
        ("RU", ABROAD, "+77012345678"),
        ("LV", SATELLITE, "+881612345678"),
        ("LV", IMPOSSIBLE, "+3712777115345 2777115300000 +999123456 00999123"),
    ],
)
def test_where_countries_are_named_only_they_are_dialled(countries: str, reason: str | None, numbers: str) -> None:
    found = {number: refused(number, "LV", tuple(countries.split())) for number in numbers.split()}
    assert found == dict.fromkeys(numbers.split(), reason)


def test_a_refusal_names_the_field_and_is_a_signal(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"destination": "+37190000000", "contactID": 966}'
    with caplog.at_level(logging.WARNING), pytest.raises(Invalid) as wrong:
        act(bridge, operation("Dial"), Request(body=body))
    assert wrong.value.fields == {"destination": PREMIUM}
    assert "signal dial_limit" in caplog.text
    assert "9000" not in caplog.text + str(wrong.value)
