"""The clock runs what is due, in order, each at its own time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from dev.simulator.clock import Clock

START = datetime(2026, 3, 2, 8, tzinfo=UTC)


def test_steps_run_in_order_of_time_and_see_their_own() -> None:
    clock, seen = Clock(), []
    clock.set(START)
    for seconds in (30, 10, 20):
        clock.at(START + timedelta(seconds=seconds), lambda: seen.append((clock.now() - START).total_seconds()))
    clock.advance(25)
    assert seen == [10, 20]
    assert clock.now() == START + timedelta(seconds=25)
    clock.play(0)
    assert seen == [10, 20, 30]
    clock.close()


def test_in_real_time_steps_run_by_themselves() -> None:
    clock, done = Clock(), threading.Event()
    clock.at(datetime.now(UTC) + timedelta(seconds=0.05), done.set)
    assert done.wait(5)
    clock.close()
