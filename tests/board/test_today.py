"""Figures and charts of calls: hours of a clock change, shares, and times until a call back."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from board import today
from shared.times import parse_time

RIGA = ZoneInfo("Europe/Riga")
CALLER, OTHER = "+37129411870", "+37122004716"


def call(started: str, outcome: str, number: str = CALLER, direction: str = "in") -> dict[str, Any]:
    side = "callerE164" if direction == "in" else "destinationE164"
    return {"started": parse_time(started), "outcome": outcome, "direction": direction, side: number}


@pytest.mark.parametrize(
    ("day", "count", "twice"),
    [(date(2026, 3, 28), 24, []), (date(2026, 3, 29), 23, []), (date(2026, 10, 25), 25, ["03 EEST", "03 EET"])],
)
def test_a_day_has_its_23_to_25_hours(day: date, count: int, twice: list[str]) -> None:
    labels = [label for label, _ in today.by_hour([], day, RIGA)]
    assert len(labels) == len(set(labels)) == count
    assert [label for label in labels if " " in label] == twice
    assert ("03" in labels) == (count == 24)


def test_a_repeated_hour_is_two_hours() -> None:
    found = [call("2026-10-25T00:30:00Z", "answered"), call("2026-10-25T01:30:00Z", "missed")]
    hours = today.by_hour(found, date(2026, 10, 25), RIGA)
    assert {label: dict(counts) for label, counts in hours if counts} == {
        "03 EEST": {"answered": 1},
        "03 EET": {"missed": 1},
    }


def test_a_day_adds_up() -> None:
    day = today.figures(
        [
            call("2026-11-30T10:40:00Z", "answered", direction="out"),
            call("2026-11-30T10:00:00Z", "missed"),
            call("2026-11-30T10:10:00Z", "voicemail"),
            call("2026-11-30T10:20:00Z", "missed", OTHER),
            call("2026-11-30T10:30:00Z", "unanswered", OTHER, direction="out"),
            call("2026-11-30T11:00:00Z", "talking", "+37126550199"),
            call("2026-11-30T11:01:00Z", "ringing", "+37126550198"),
        ]
    )
    assert (day.incoming, day.outgoing) == (5, 2)
    assert (day.answered, day.missed, day.callers, day.seconds) == (1, 3, 2, [40 * 60])
    assert (day.share, day.median_seconds) == (0.25, 40 * 60)


def test_an_empty_day_has_no_share() -> None:
    day = today.figures([])
    assert (day.share, day.median_seconds) == (None, None)
    assert today.by_weekday([], RIGA) == (range(8, 18), {})


def test_weekdays_and_hours_are_local() -> None:
    found = [call("2026-03-29T22:30:00Z", "answered"), call("2026-03-29T22:40:00Z", "missed")]
    span, cells = today.by_weekday(found, RIGA)
    # Monday, half past one in summer time.
    assert cells == {(0, 1): {"answered": 1, "missed": 1}}
    assert span == range(1, 18)


@given(st.integers(0, 10**9))
def test_an_axis_has_a_few_round_marks(most: int) -> None:
    found = today.ticks(most)
    assert found[-1] >= most
    assert 2 <= len(found) <= 6
