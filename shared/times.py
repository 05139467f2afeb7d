"""Times as the PBX writes them and as we keep them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MICROSECONDS_PER_SECOND = 1_000_000
# callIDs outside this range are plain counters, not the call's start in microseconds.
FIRST_CLOCK_ID = 946_684_800 * MICROSECONDS_PER_SECOND  # 2000-01-01
LAST_CLOCK_ID = 4_102_444_800 * MICROSECONDS_PER_SECOND  # 2100-01-01
_FIRST_YEAR = 1601  # Table Storage knows no earlier one


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def parse_time(text: str) -> datetime:
    """
    A time of the PBX's wire format in UTC.

    ISO 8601 with an offset written as `+0000`, `+00:00` or `Z`, with or without a fraction; one without an
    offset is taken as UTC. Raises ValueError for anything else, and for a year before 1601.
    """
    try:
        moment = datetime.fromisoformat(text.strip().upper())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if moment.year < _FIRST_YEAR:
            raise ValueError("no real call")
    except (ValueError, OverflowError) as error:
        raise ValueError("a time such as 2018-04-25T13:54:19+0000 is expected") from error
    return moment


def after(moment: datetime, seconds: int) -> datetime | None:
    """The moment so many seconds later; None where the calendar ends before it."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return None


def iso(moment: datetime) -> str:
    """The moment in UTC as ISO 8601 with `Z`; microseconds only where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def call_start(call_id: int) -> datetime | None:
    """The start that a callID spells in microseconds since 1970, or None where the id is a plain counter."""
    if not FIRST_CLOCK_ID <= call_id <= LAST_CLOCK_ID:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=call_id)
