"""Timers and the host's schedule monitor."""

from __future__ import annotations

import pytest

from functions.background import TIMERS, runs_often
from shared.settings import SETTINGS
from tests.indexed import hosted


@pytest.mark.parametrize("schedule", ["0 * * * * *", "15 * * * * *", "5 0/5 * * * *", "5 */10 * * * *"])
def test_a_timer_of_every_few_minutes_runs_often(schedule: str) -> None:
    assert runs_often(schedule)


@pytest.mark.parametrize(
    "schedule", ["45 20 * * * *", "0 0 3 * * *", "0 */5 8-17 * * *", "0 * * * * 1-5", "0 0 0 1 1 *"]
)
def test_a_timer_with_long_pauses_does_not(schedule: str) -> None:
    assert not runs_often(schedule)


def test_only_timers_with_long_pauses_keep_a_schedule_monitor() -> None:
    defaults = {row.name: row.default or "" for row in SETTINGS}
    monitored = {one.name: one.trigger["useMonitor"] for one in hosted() if "useMonitor" in one.trigger}
    assert monitored == {name: not runs_often(defaults[schedule]) for name, schedule, _ in TIMERS}
    assert not monitored["LookAfter"]
