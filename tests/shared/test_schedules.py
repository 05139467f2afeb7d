"""Schedules: when a timer is late, and when it is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.schedules import SCHEDULES, polls, schedule, times_due
from shared.settings import SETTINGS

NAME = polls("contacts")
# A Wednesday.
NOW = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)


def test_a_setting_stands_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert schedule(NAME) == {name: text for name, text, _ in SCHEDULES}[NAME]
    monkeypatch.setenv(NAME, " 0 0 * * * * ")
    assert schedule(NAME) == "0 0 * * * *"
    monkeypatch.setenv(NAME, " ")
    assert schedule(NAME) == {name: text for name, text, _ in SCHEDULES}[NAME]
    with pytest.raises(KeyError):
        schedule("POLL_FAXES_SCHEDULE")


@pytest.mark.parametrize("row", [row for row in SETTINGS if row.read_by_host], ids=lambda row: row.name)
def test_every_default_can_be_read(row: object) -> None:
    assert times_due(getattr(row, "name", ""), NOW - timedelta(days=3), NOW) == 2


@pytest.mark.parametrize(
    ("text", "fine", "late"),
    [
        ("0 * * * * *", timedelta(seconds=90), timedelta(minutes=3)),
        ("5 0/5 * * * *", timedelta(minutes=9), timedelta(minutes=12)),
        ("0 */45,7 * * * *", timedelta(minutes=29), timedelta(minutes=31)),
        ("0 0 3 * * *", timedelta(hours=33), timedelta(hours=34)),
        ("0 0 8-10 * * 1-5", timedelta(hours=3), timedelta(hours=4)),
        ("0 0 9 * * MON,Tue", timedelta(days=2), timedelta(days=3)),
        ("0 0 0 1 1 *", timedelta(days=600), timedelta(days=800)),
        ("30 * * * *", timedelta(minutes=119), timedelta(minutes=121)),
    ],
)
def test_two_runs_are_missed_by_the_timer_s_own_schedule(
    text: str, fine: timedelta, late: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, text)
    assert times_due(NAME, NOW - fine, NOW) < 2
    assert times_due(NAME, NOW - late, NOW) == 2


def test_a_weekend_is_no_delay_for_what_runs_on_weekdays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "0 0 8-18 * * Mon-Fri")
    friday, monday = datetime(2026, 11, 27, 18, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)
    assert times_due(NAME, friday, monday) < 2
    assert times_due(NAME, friday, monday + timedelta(hours=8, minutes=30)) < 2
    assert times_due(NAME, friday, monday + timedelta(hours=9, minutes=30)) == 2


@pytest.mark.parametrize("text", ["often", "0 0 30 2 *", "00:05:00", "0 0 0 0 0 0"])
def test_a_schedule_that_cannot_be_read_makes_nothing_late(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, text)
    assert times_due(NAME, NOW - timedelta(days=900), NOW) == 0
