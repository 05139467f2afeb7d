"""Which numbers the API may have called, and how many an hour: a stolen key must not run up a bill."""

from __future__ import annotations

import json
import logging
import time
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.api.parameters import is_number
from shared.errors import DialLimit, FieldError, Invalid
from shared.storage import rows
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from azure.data.tables import TableClient
    from phonenumbers import PhoneNumber

    from shared.pbx.operations import Operation
    from shared.settings import Settings

logger = logging.getLogger(__name__)

# Beside the claims, whose partitions are two hexadecimal digits.
PARTITION, KEY = "limit", "rings"
_MINUTES = 60
# Longer ones without a plus are no short numbers, in-house or of an operator.
_LONGEST_SHORT = 6
PREMIUM = "premium-rate numbers are not dialled"
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
            raise Invalid(tuple(FieldError(name, reason) for name, reason in wrong.items()))

    def count(self) -> None:
        """
        Count one more ring in the last sixty minutes, over all instances: two operations of the table.

        Raises DialLimit where they hold DIAL_PER_HOUR of them; Conflict and StorageUnavailable.
        """
        minute, limit, full = _minute(), self._settings.dial_per_hour, [0]

        def add(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
            counts = _counts(row, minute)
            if sum(counts.values()) >= limit:
                full[0] = (min(counts, default=minute) + _MINUTES) * 60 - int(time.time())
                return None
            full[0] = 0
            return self._columns(counts | {minute: counts.get(minute, 0) + 1})

        # The threads of a process wait here instead of racing one another there.
        with _ours:
            counted = rows.change(self._table, PARTITION, KEY, add)
        if counted is None:
            logger.warning("signal dial_limit reason=%d calls in an hour", limit)
            raise DialLimit(max(full[0], 1))
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

    Not dialled are premium-rate numbers, also with digits too many, which networks ignore; the emergency numbers of
    the region; and where `countries` are named, what is not certainly in one of them. A short number of up to six
    digits is in `region`.
    """
    import phonenumbers

    if phonenumbers.is_emergency_number(number, region):
        return EMERGENCY
    readings = list(_readings(number, region))
    exact = next((parsed for parsed in readings if phonenumbers.is_possible_number(parsed)), None)
    # A number that is one as it stands is no other one.
    if any(_is_premium(parsed, region) for parsed in (readings[:1] if exact in readings[:1] else readings)):
        return PREMIUM
    if not countries:
        return None
    if exact:
        return None if phonenumbers.region_code_for_number(exact) in countries else ABROAD
    is_short = len(number) <= _LONGEST_SHORT and number[0] not in "+0"
    return COUNTRY_UNKNOWN if not is_short else None if region in countries else ABROAD


def _readings(number: str, region: str) -> Iterator[PhoneNumber]:
    """The number as it stands, and as an international one whose plus got lost or has zeros behind it."""
    import phonenumbers

    for text in (number, "+" + number.lstrip("+0")):
        try:
            yield phonenumbers.parse(text, region)
        except phonenumbers.NumberParseException:
            continue


def _is_premium(parsed: PhoneNumber, region: str) -> bool:
    import phonenumbers

    if phonenumbers.expected_cost_for_region(parsed, region) == phonenumbers.ShortNumberCost.PREMIUM_RATE:
        return True
    shortened = phonenumbers.PhoneNumber()
    shortened.merge_from(parsed)
    phonenumbers.truncate_too_long_number(shortened)
    return bool(phonenumbers.number_type(shortened) == phonenumbers.PhoneNumberType.PREMIUM_RATE)
