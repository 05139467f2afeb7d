"""The maintenance timer runs each step when it is due, and reports failed steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from functions import look_after
from shared import health
from shared.bridge import Bridge
from shared.times import now

HOUR = timedelta(hours=1)


class Steps:
    """Steps that note when they ran, of which some fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[str] = []
        self.failing: set[str] = set()
        rows = (("webhooks", HOUR), ("often", timedelta()), ("daily", 24 * HOUR))
        monkeypatch.setattr(look_after, "STEPS", [(name, every, self._work(name)) for name, every in rows])

    def _work(self, name: str) -> Callable[[Bridge], object]:
        def work(_: Bridge) -> None:
            self.ran.append(name)
            if name in self.failing:
                raise ZeroDivisionError

        return work

    def run(self, bridge: Bridge, at: Any) -> list[str]:
        self.ran.clear()
        look_after.look_after(bridge, at=at)
        return list(self.ran)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_each_step_runs_when_it_is_due_and_a_process_begins_with_webhooks(
    steps: Steps, start_bridge: Callable[..., Bridge]
) -> None:
    bridge, begin = start_bridge(), now()
    assert steps.run(bridge, begin) == ["webhooks", "often", "daily"]
    assert steps.run(bridge, begin + timedelta(minutes=5)) == ["often"]
    assert steps.run(bridge, begin + HOUR) == ["webhooks", "often"]
    assert steps.run(start_bridge(), begin + HOUR + timedelta(minutes=5)) == ["webhooks", "often"]
    assert steps.run(bridge, begin + 24 * HOUR) == ["webhooks", "often", "daily"]


def test_a_failed_step_stops_no_other_and_is_shown_until_it_succeeds(steps: Steps, bridge: Bridge) -> None:
    begin = now()
    steps.failing = {"daily", "often"}
    for minutes in (0, 5):
        with pytest.raises(ExceptionGroup):
            steps.run(bridge, begin + timedelta(minutes=minutes))
    assert steps.ran == ["often", "daily"]
    shown = {row["timer"]: row["error"] for row in health.failed_timers(bridge.storage)}
    assert shown == {f"LookAfter ({name})": "ZeroDivisionError" for name in ("often", "daily")}
    steps.failing = set()
    assert steps.run(bridge, begin + timedelta(minutes=10)) == ["often", "daily"]
    assert health.failed_timers(bridge.storage) == []


def test_the_real_steps_do_nothing_to_an_empty_account(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge.storage.ready()
    monkeypatch.setattr(look_after, "STEPS", [step for step in look_after.STEPS if step[0] != "webhooks"])
    look_after.look_after(bridge)
    assert health.failed_timers(bridge.storage) == []
