"""Timer triggers, by the clock and by hand."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import requests

from dev.host.errors import HostError
from dev.host.timers import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Sample

    Start = Callable[..., Sample]

MOMENT = datetime(2026, 2, 27, 23, 59, 58, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * * *", "2026-02-27T23:59:59"),
        ("*/30 * * * * *", "2026-02-28T00:00:00"),
        ("15 */5 * * * *", "2026-02-28T00:00:15"),
        ("*/5 * * * *", "2026-02-28T00:00:00"),
        ("0 30 9 * * 1-5", "2026-03-02T09:30:00"),
        ("0 30 9 * * MON", "2026-03-02T09:30:00"),
        ("0 0 3 13 * 5", "2026-03-13T03:00:00"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00"),
    ],
)
def test_a_schedule_has_seconds_first_and_both_day_fields_count(text: str, expected: str) -> None:
    assert Schedule(text).after(MOMENT) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "* * * *", "* * * * * * *", "@daily", "00:05:00", "60 * * * * *", "0 0 0 32 1 *"])
def test_what_is_not_a_schedule_is_refused(text: str) -> None:
    with pytest.raises(HostError, match=re.escape(repr(text))):
        Schedule(text)


def test_a_timer_runs_by_its_schedule(sample: Start) -> None:
    app = sample(TICKS="* * * * * *")
    notes = [note for note in app.noted("ticks", 6) if "at" in note]
    assert all(note["at"] % 1 < 0.5 for note in notes)
    assert len({int(note["at"]) for note in notes}) == len(notes)
    assert not any(note["past_due"] for note in notes)


def test_a_timer_never_overlaps_itself(sample: Start) -> None:
    app = sample(TICKS="* * * * * *", TICK_SECONDS="1.4")
    requests.post(f"{app.host.url}/admin/functions/tick", json={"input": ""})
    order = ["at" in note for note in app.noted("ticks", 5, seconds=15)]
    assert order[:5] == [True, False, True, False, True]


def test_a_timer_runs_by_hand(sample: Start) -> None:
    app = sample()
    assert requests.post(f"{app.host.url}/admin/functions/tick", json={"input": ""}).status_code == 202
    app.noted("ticks", 2)
