"""Rules for dialled numbers: no emergency, premium-rate or satellite number, and only countries that are named."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from shared.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from phonenumbers import PhoneNumber

    from shared.settings import Settings

logger = logging.getLogger(__name__)

# Longer ones without a plus are no short numbers, in-house or of an operator.
_LONGEST_SHORT = 6
# Country codes of no country: Inmarsat, satellites, international networks.
_SATELLITES = (870, 881, 882, 883)
EMERGENCY = "emergency numbers are not dialled: a person has to"
PREMIUM = "premium-rate numbers are not dialled"
SATELLITE = "numbers of satellites and of international networks are not dialled"
IMPOSSIBLE = "no phone number has this many digits; write it with a plus and the country code"
ABROAD = "only numbers in the countries of DIAL_COUNTRIES are dialled"


def check(settings: Settings, operation: str, numbers: Mapping[str, str]) -> None:
    """Raise Invalid with the reason for each number that is not dialled; `numbers` are as the PBX would get them."""
    region, countries = settings.default_region, settings.dial_countries
    wrong = {name: reason for name, number in numbers.items() if (reason := refused(number, region, countries))}
    if wrong:
        logger.warning("signal dial_limit operation=%s reason=%s", operation, next(iter(wrong.values())))
        raise Invalid(wrong)


def refused(number: str, region: str, countries: tuple[str, ...]) -> str | None:
    """
    Return the reason why a number is not dialled in `region`, or None where it may be.

    A stolen key must not run up a bill, so a number that may also be read as a costly one is one. Short numbers of up
    to six digits belong to `region`.
    """
    import phonenumbers

    readings = list(_readings(number, region))
    # One zero is what is dialled at home, and no plus that got lost.
    certain = readings[:1] if re.match("0[1-9]", number) else readings
    valid = next((parsed for parsed in certain if phonenumbers.is_valid_number(parsed)), None)
    if _is_emergency(number, region, valid):
        return EMERGENCY
    # Zeros behind a country code are left out by those who dial, and by networks.
    bare = [phonenumbers.PhoneNumber(one.country_code, national_number=one.national_number) for one in readings]
    for parsed in [valid] if valid else [*readings, *bare]:
        if reason := _costly(parsed, region):
            return reason
    exact = valid or next((parsed for parsed in readings if phonenumbers.is_possible_number(parsed)), None)
    if exact is None and (len(number) > _LONGEST_SHORT or number[0] in "+0"):
        return IMPOSSIBLE
    country = phonenumbers.region_code_for_number(exact) if exact else region
    return ABROAD if countries and country not in countries else None


def _readings(number: str, region: str) -> Iterator[PhoneNumber]:
    """Yield the number as it stands, and as an international one whose plus got lost or has zeros behind it."""
    import phonenumbers

    for text in (number, "+" + number.lstrip("+0")):
        try:
            yield phonenumbers.parse(text, region)
        except phonenumbers.NumberParseException:
            continue


def _is_emergency(number: str, region: str, valid: PhoneNumber | None) -> bool:
    """True if an emergency number would answer; `valid` is the ordinary number that it is, if it is one."""
    import phonenumbers

    if phonenumbers.connects_to_emergency_number(number, region):
        # Some countries have ordinary numbers that begin as those of emergencies do.
        usual = phonenumbers.format_number(valid, phonenumbers.PhoneNumberFormat.NATIONAL) if valid else ""
        return re.sub("[^0-9]", "", usual) != number
    if valid:
        return False
    code, bare = str(phonenumbers.country_code_for_region(region)), number.lstrip("+0")
    spellings = {number.lstrip("+"), bare, bare.removeprefix(code).lstrip("0")}
    return any(
        len(text) <= _LONGEST_SHORT and phonenumbers.connects_to_emergency_number(text, region) for text in spellings
    )


def _costly(parsed: PhoneNumber, region: str) -> str | None:
    """Return the reason why a number costs more than others, also with digits too many."""
    import phonenumbers

    whole = phonenumbers.PhoneNumber()
    whole.merge_from(parsed)
    phonenumbers.truncate_too_long_number(whole)
    cost, kind = phonenumbers.expected_cost_for_region(parsed, region), phonenumbers.number_type(whole)
    if cost == phonenumbers.ShortNumberCost.PREMIUM_RATE or kind == phonenumbers.PhoneNumberType.PREMIUM_RATE:
        return PREMIUM
    reason = phonenumbers.is_possible_number_with_reason(parsed)
    is_whole = reason != phonenumbers.ValidationResult.TOO_SHORT
    return SATELLITE if parsed.country_code in _SATELLITES and is_whole else None
