"""Times: read in any documented form; placeholders are no time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.times import bare_date, belongs_to_call, day_bounds, event_time, iso, local_day

START = datetime(2024, 5, 31, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        *("1970-01-01T00:00:00+0000", "1970-01-01T02:00:00+0200", "0001-01-01T00:00:00", "-0001-11-30T00:00:00+0000"),
        *("0000-00-00 00:00:00", "0000-00-00T00:00:00Z", "1899-12-30T00:00:00Z", "1999-11-30T00:00:00Z", "2000-01-01"),
        *("2038-01-19T03:14:07Z", "2038-01-19T05:14:07+0200", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-1200"),
        *("2106-02-07T06:28:15Z", "2018-13-01T00:00:00Z", "yesterday", "null", "", " ", "1717149600"),
        *(None, 0, 1717149600, 1.5, True, [], ["2018-04-25"], {}, {"date": "2018-04-25"}),
    ],
)
def test_placeholders_are_no_time(value: Any) -> None:
    assert event_time(value) is None


@given(st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001
def test_any_time_of_these_times_is_read(moment: datetime) -> None:
    if moment.year != 2038:
        assert event_time(iso(moment)) == moment


@given(st.from_type(object) | st.text())
def test_anything_is_a_time_or_none(value: Any) -> None:
    found = event_time(value)
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("after", "fits"),
    [
        (timedelta(0), True),
        (timedelta(seconds=-90), True),
        (timedelta(days=6), True),
        (timedelta(minutes=-55), False),
        (timedelta(days=8), False),
    ],
)
def test_a_call_has_room_for_what_happens_from_its_start_on(after: timedelta, fits: bool) -> None:
    assert belongs_to_call(START + after, [START]) is fits


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (date(2026, 3, 28), "Europe/Riga", 24),
        (date(2026, 3, 29), "Europe/Riga", 23),
        (date(2026, 10, 25), "Europe/Riga", 25),
        (date(2026, 10, 25), "UTC", 24),
        (date(2018, 11, 4), "America/Sao_Paulo", 23),  # a day without midnight
        (date(2026, 11, 1), "America/Havana", 25),  # a day with two
    ],
)
def test_a_day_of_a_time_zone_is_as_long_as_it_is_there(day: date, zone: str, hours: int) -> None:
    start, end = day_bounds(day, ZoneInfo(zone))
    assert end - start == timedelta(hours=hours)
    assert local_day(start, ZoneInfo(zone)) == day == local_day(end - timedelta(microseconds=1), ZoneInfo(zone))
    assert local_day(start - timedelta(microseconds=1), ZoneInfo(zone)) < day < local_day(end, ZoneInfo(zone))


@pytest.mark.parametrize("text", ["2026-03-29T00:00:00", "20260329", "2026-W13-7", "2026-02-30", "", "٢٠٢٦-٠٣-٢٩"])
def test_only_a_whole_date_is_a_bare_one(text: str) -> None:
    assert bare_date(text) is None
    assert bare_date(" 2026-03-29 ") == date(2026, 3, 29)
