"""Times as the PBX writes them and as we keep them."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

_EPOCH = datetime.fromtimestamp(0, UTC)
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_LAST_OF_32_BITS = datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)
_FIRST_YEAR = 1601  # Table Storage knows no earlier one
_LAST_MICROSECOND = 10**16
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
LONGEST_CALL = timedelta(days=7)
_CLOCKS_DIFFER = timedelta(minutes=5)


def now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


def parse_time(text: str) -> datetime:
    """
    Return a time of the PBX's wire format, ISO 8601, in UTC; one without an offset is taken as UTC.

    Raises ValueError for anything else, and for a year before 1601.
    """
    try:
        moment = datetime.fromisoformat(text.strip().upper())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if moment.year < _FIRST_YEAR:
            raise ValueError("no real call")
    except (ValueError, OverflowError) as error:
        raise ValueError("a time such as 2018-04-25T13:54:19+0000 is expected") from error
    return moment


def event_time(value: Any) -> datetime | None:
    """
    Return a time as an event or an item carries it, in UTC, or None.

    It is None for a text that parse_time does not read, and for a time that stands for none: of a clock that was never
    set (before 2000), or at the end of a clock (2038-01-19T03:14:07Z, from 2100 on).
    """
    try:
        moment = parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if moment is None or not _FIRST < moment < _LAST or moment.replace(microsecond=0) == _LAST_OF_32_BITS:
        return None
    return moment


def belongs_to_call(moment: datetime, starts: Iterable[datetime | None]) -> bool:
    """
    Return True if a moment can belong to a call that began at one of these times, or if none of them is known.

    Clocks differ by minutes, and no call lasts LONGEST_CALL.
    """
    belongs = True
    for start in filter(None, starts):
        if start - _CLOCKS_DIFFER <= moment <= start + LONGEST_CALL:
            return True
        belongs = False
    return belongs


def after(moment: datetime, seconds: int) -> datetime | None:
    """Return the moment so many seconds later, or None past the end of the calendar."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return None


def months_before(moment: datetime, months: int) -> datetime:
    """Return the beginning of the day so many months earlier, in UTC; in a short month its last day."""
    moment = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))


def bare_date(text: str) -> date | None:
    """Return the date that a text is (`2026-03-29`), or None if it has a time or is no date."""
    try:
        return date.fromisoformat(text.strip()) if _DATE.fullmatch(text.strip()) else None
    except ValueError:
        return None


def local_day(moment: datetime, zone: tzinfo) -> date:
    """Return the date of a moment in a time zone."""
    return moment.astimezone(zone).date()


def day_bounds(day: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the start of a day in a time zone and that of the next start, in UTC: 23, 24 or 25 hours apart."""
    first, last = (datetime.combine(start, time(), tzinfo=zone) for start in (day, day + timedelta(days=1)))
    return first.astimezone(UTC), last.astimezone(UTC)


def iso(moment: datetime) -> str:
    """Return the moment in UTC as ISO 8601 with `Z`; microseconds only if there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def stamp(moment: datetime) -> str:
    """Return the moment in UTC, always with microseconds, so that stamps sort as their moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def newest_first(moment: datetime) -> str:
    """Return the start of a key that sorts the newest first, to the microsecond; all are of one length."""
    return f"{_LAST_MICROSECOND - min(max(clock(moment), 1), _LAST_MICROSECOND):016d}"


def clock(moment: datetime) -> int:
    """Return the microseconds since 1970, exactly."""
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


# callIDs outside this range are plain counters, not the call's start in microseconds.
FIRST_CLOCK_ID, LAST_CLOCK_ID = clock(_FIRST), clock(_LAST)


def call_start(call_id: int) -> datetime | None:
    """Return the start that a callID spells in microseconds since 1970, or None if the id is a plain counter."""
    if not FIRST_CLOCK_ID <= call_id <= LAST_CLOCK_ID:
        return None
    return _EPOCH + timedelta(microseconds=call_id)
