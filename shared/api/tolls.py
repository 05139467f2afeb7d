"""Which numbers the API may have called, and how many an hour: a stolen key must not run up a bill."""

from __future__ import annotations

import json
import logging
import re
import time
from threading import Lock
from typing import TYPE_CHECKING, Any

import phonenumbers
from phonenumbers import PhoneNumber

from shared.api.parameters import is_number
from shared.errors import DialLimit, Invalid
from shared.storage import rows
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from azure.data.tables import TableClient

    from shared.pbx.operations import Operation
    from shared.settings import Settings

logger = logging.getLogger(__name__)

# Beside the claims, whose partitions are two hexadecimal digits.
PARTITION, KEY = "limit", "rings"
_MINUTES = 60
# Longer ones without a plus are no short numbers, in-house or of an operator.
_LONGEST_SHORT = 6
# Country codes of no country: Inmarsat, satellites, international networks.
_SATELLITES = (870, 881, 882, 883)
PREMIUM = "premium-rate numbers are not dialled"
SATELLITE = "numbers of satellites and of international networks are not dialled"
EMERGENCY = "emergency numbers are not dialled: a person has to"
ABROAD = "only numbers in the countries of DIAL_COUNTRIES are dialled"
COUNTRY_UNKNOWN = "its country is not known, and only those of DIAL_COUNTRIES are dialled; write it with a plus"
_ours = Lock()


class TollRules:
    """The rules for one request, and its place among the rings of the last hour once it is counted."""

    def __init__(self, table: TableClient, settings: Settings, *, keep: timedelta) -> None:
        self._table = table
        self._settings = settings
        self._keep = keep
        self._minute: int | None = None

    def check(self, operation: Operation, values: Mapping[str, Any]) -> None:
        """Raise Invalid for a number that is not dialled."""
        region, countries = self._settings.default_region, self._settings.dial_countries
        found = [row.name for row in operation.parameters if is_number(row) and row.name in values]
        wrong = {name: reason for name in found if (reason := refused(values[name], region, countries))}
        if wrong:
            logger.warning("signal dial_limit operation=%s reason=%s", operation.id, next(iter(wrong.values())))
            raise Invalid(wrong)

    def count(self) -> None:
        """
        Count one more ring in the last sixty minutes, over all instances: two operations of the table.

        Raises DialLimit where they hold DIAL_PER_HOUR of them; Conflict and StorageUnavailable.
        """
        minute, limit = _minute(), self._settings.dial_per_hour

        def add(row: Mapping[str, Any] | None) -> dict[str, Any]:
            counts = _counts(row, minute)
            if sum(counts.values()) >= limit:
                logger.warning("signal dial_limit reason=%d calls in an hour", limit)
                raise DialLimit(max((min(counts, default=minute) + _MINUTES) * 60 - int(time.time()), 1))
            return self._columns(counts | {minute: counts.get(minute, 0) + 1})

        # The threads of a process wait here instead of racing one another there.
        with _ours:
            rows.change(self._table, PARTITION, KEY, add)
        self._minute = minute

    def give_back(self) -> None:
        """Count it no more: it did not ring."""
        minute, self._minute = self._minute, None
        if minute is None:
            return

        def take(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
            counts = _counts(row, _minute())
            return self._columns(counts | {minute: counts[minute] - 1}) if counts.get(minute) else None

        with _ours:
            rows.change(self._table, PARTITION, KEY, take)

    def _columns(self, counts: Mapping[int, int]) -> dict[str, Any]:
        moment = now()
        return {"minutes": json.dumps(counts), "since": moment, "until": moment + self._keep}


def _minute() -> int:
    return int(time.time() // 60)


def _counts(row: Mapping[str, Any] | None, minute: int) -> dict[int, int]:
    """Rings by minute, of the last hour alone."""
    counts = json.loads(row["minutes"]) if row is not None else {}
    return {int(at): count for at, count in counts.items() if minute - _MINUTES < int(at) and count > 0}


def refused(number: str, region: str, countries: tuple[str, ...]) -> str | None:
    """
    Why a number that is dialled in `region` is not; None where it may be.

    Not dialled are emergency numbers of the region, also with digits behind them or with its country code before
    them; premium-rate numbers and those of satellites, also in spellings that networks may put right (digits too many,
    zeros too many, no plus); and where `countries` are named, what is not certainly in one of them. A short number of
    up to six digits is in `region`. A number that is one as it stands is no other one.
    """
    readings = list(_readings(number, region))
    # One zero is what is dialled at home, and no plus that got lost.
    certain = readings[:1] if re.match("0[1-9]", number) else readings
    valid = next((parsed for parsed in certain if phonenumbers.is_valid_number(parsed)), None)
    if _is_emergency(number, region, valid):
        return EMERGENCY
    for parsed in [valid] if valid else [*readings, *_near(number, region, readings)]:
        if reason := _costly(parsed, region):
            return reason
    if not countries:
        return None
    exact = next((parsed for parsed in readings if phonenumbers.is_possible_number(parsed)), None)
    if exact:
        return None if phonenumbers.region_code_for_number(exact) in countries else ABROAD
    is_short = len(number) <= _LONGEST_SHORT and number[0] not in "+0"
    return COUNTRY_UNKNOWN if not is_short else None if region in countries else ABROAD


def _readings(number: str, region: str) -> Iterator[PhoneNumber]:
    """The number as it stands, and as an international one whose plus got lost or has zeros behind it."""
    for text in (number, "+" + number.lstrip("+0")):
        try:
            yield phonenumbers.parse(text, region)
        except phonenumbers.NumberParseException:
            continue


def _near(number: str, region: str, readings: list[PhoneNumber]) -> Iterator[PhoneNumber]:
    """What else it may mean: a number of the region, and any of these without what is dialled before national ones."""
    digits = number.lstrip("+0")
    nationals = [(phonenumbers.country_code_for_region(region), number.lstrip("+"))]
    for one in readings:
        begin = str(one.country_code)
        # As it was written: the library leaves out what it takes for a prefix.
        rest = digits.removeprefix(begin) if digits.startswith(begin) else phonenumbers.national_significant_number(one)
        nationals.append((int(begin), rest))
    for code, national in nationals:
        trunk = phonenumbers.ndd_prefix_for_region(phonenumbers.region_code_for_country_code(code), True) or "0"
        bare = national.lstrip("0")
        for text in {bare, national.removeprefix(trunk).lstrip("0"), bare.removeprefix(trunk)} - {""}:
            yield PhoneNumber(country_code=code, national_number=int(text))
            # Of some countries a zero is a part of the number.
            yield PhoneNumber(country_code=code, national_number=int(text), italian_leading_zero=True)


def _is_emergency(number: str, region: str, valid: PhoneNumber | None) -> bool:
    """Whether an emergency number would answer; `valid` is the ordinary number that it is, if it is one."""
    if phonenumbers.connects_to_emergency_number(number, region):
        # Some countries have ordinary numbers that begin as those of emergencies do.
        usual = phonenumbers.format_number(valid, phonenumbers.PhoneNumberFormat.NATIONAL) if valid else ""
        return re.sub("[^0-9]", "", usual) != number
    if valid:
        return False
    code = str(phonenumbers.country_code_for_region(region))
    bare = number.lstrip("+0")
    spellings = {number.lstrip("+"), bare, bare.removeprefix(code), bare.removeprefix(code).lstrip("0")}
    return any(
        len(text) <= _LONGEST_SHORT and phonenumbers.connects_to_emergency_number(text, region) for text in spellings
    )


def _costly(parsed: PhoneNumber, region: str) -> str | None:
    """Why a number costs more than others, also with digits too many."""
    whole = PhoneNumber()
    whole.merge_from(parsed)
    phonenumbers.truncate_too_long_number(whole)
    cost, kind = phonenumbers.expected_cost_for_region(parsed, region), phonenumbers.number_type(whole)
    if cost == phonenumbers.ShortNumberCost.PREMIUM_RATE or kind == phonenumbers.PhoneNumberType.PREMIUM_RATE:
        return PREMIUM
    reason = phonenumbers.is_possible_number_with_reason(parsed)
    is_whole = reason != phonenumbers.ValidationResult.TOO_SHORT
    return SATELLITE if parsed.country_code in _SATELLITES and is_whole else None
