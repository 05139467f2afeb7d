"""What is not dialled: costly numbers, countries that nobody named, and more calls than an hour may have."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import phonenumbers
import pytest

from shared.api.dial_rules import ABROAD, EMERGENCY, IMPOSSIBLE, PREMIUM, SATELLITE, check, refused
from shared.errors import Invalid
from shared.pbx.operations import operation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.settings import Settings

DIAL = operation("Dial")


@pytest.mark.parametrize("region", ["LV", "LT", "EE", "GB", "DE", "US", "FR", "PL"])
def test_premium_rate_numbers_are_not_dialled_however_they_are_written(region: str) -> None:
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.PREMIUM_RATE)
    full = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
    for number in (full, "00" + full[1:], "+00" + full[1:], full[1:], full + "1"):
        assert refused(number, "LV", ()) == PREMIUM, number


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
    """Whether a number is a valid one as it stands, and no premium-rate one."""
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
    "number", ["881612345678", "+881612345678", "00881612345678", "+870773111632", "+882360123456", "+8830123456789"]
)
def test_satellites_and_networks_of_no_country_are_not_dialled(number: str) -> None:
    assert refused(number, "LV", ()) == SATELLITE


def test_a_premium_rate_number_without_its_plus_is_none_of_the_region() -> None:
    assert refused("0081990123456", "JP", ()) == PREMIUM


@pytest.mark.parametrize("number", ["90000000", "900000001", "+979123456789", "+371090000000", "090000000"])
def test_premium_rate_numbers_of_the_region_and_of_no_country_are_not_dialled(number: str) -> None:
    assert refused(number, "LV", ()) == PREMIUM


@pytest.mark.parametrize(
    "number",
    ["27771153", "+37127771153", "67000123", "80000000", "+442071838750", "0046812345678", "101", "1188"],
)
def test_other_numbers_are(number: str) -> None:
    assert refused(number, "LV", ()) is None


@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("112", "LV"),
        ("110", "LV"),
        ("911", "US"),
        ("999", "GB"),
        ("+112", "LV"),
        ("0112", "LV"),
        ("00112", "LV"),
        ("112112", "LV"),
        ("1120", "LV"),
        ("1121234567", "LV"),
        ("+371112", "LV"),
        ("00371112", "LV"),
        ("371112", "LV"),
        ("+3710112", "LV"),
        ("0112", "DE"),
        ("+49112", "DE"),
        ("+1911", "US"),
        ("9110", "US"),
        ("+44999", "GB"),
    ],
)
def test_emergency_numbers_are_for_people(number: str, region: str) -> None:
    assert refused(number, region, ()) == EMERGENCY


@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("031234567", "LT"),
        ("+46112345678", "SE"),
        ("0112345678", "SE"),
        ("+15125550123", "FR"),
        ("0153001234", "FR"),
        ("101", "LV"),
        ("116111", "LV"),
        ("1188", "LV"),
        ("1001", "LV"),
        ("+77112345678", "KZ"),
    ],
)
def test_ordinary_numbers_that_begin_as_an_emergency_one_are_dialled(number: str, region: str) -> None:
    assert refused(number, region, ()) is None


@pytest.mark.parametrize(
    ("number", "countries", "reason"),
    [
        ("27771153", ("LV",), None),
        ("+37127771153", ("LV", "LT"), None),
        ("0037127771153", ("LV",), None),
        ("+37061234567", ("LV", "LT"), None),
        ("+37061234567", ("LV",), ABROAD),
        ("0037061234567", ("LV",), ABROAD),
        ("37061234567", ("LV",), ABROAD),
        ("27771153", ("LT",), ABROAD),
        ("+12015550123", ("US",), None),
        ("+12423456789", ("US",), ABROAD),
        ("+447624123456", ("GB",), ABROAD),
        ("+77012345678", ("RU",), ABROAD),
        ("+881612345678", ("LV",), SATELLITE),
        ("101", ("LV",), None),
        ("101", ("LT",), ABROAD),
        ("+3712777115345", ("LV",), IMPOSSIBLE),
        ("2777115300000", ("LV",), IMPOSSIBLE),
        ("+999123456", ("LV",), IMPOSSIBLE),
        ("00999123", ("LV",), IMPOSSIBLE),
    ],
)
def test_where_countries_are_named_only_they_are_dialled(
    number: str, countries: tuple[str, ...], reason: str | None
) -> None:
    assert refused(number, "LV", countries) == reason


def test_a_refusal_names_the_field_and_is_a_signal(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(Invalid) as wrong:
        check(settings, "Dial", {"destination": "+37190000000"})
    assert wrong.value.fields == {"destination": PREMIUM}
    assert "signal dial_limit" in caplog.text
    assert "9000" not in caplog.text + str(wrong.value)
