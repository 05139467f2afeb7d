"""The assumptions of the costs in docs/deploy.md, against the code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

import pytest

from dev.simulator import Simulator
from functions.background import TIMERS
from shared.bridge import Bridge, assemble
from shared.polling.poll import poll, poll_lost_calls
from shared.settings import SCHEDULES, Settings
from shared.storage.account import TABLES
from shared.times import now
from tests.breaking import break_connections
from tests.infra.docs import ASSUMED, TABLE_OPERATIONS, idle_dollars, runs_a_day

OWN = {"PUBLIC_BASE_URL": "https://func-pbx.test", "PBX_WEBHOOK_KEY": "key", "PBX_EVENTS": "CallStarted"}


# For each list that is polled, with all that looks after it: what five minutes between two polls cost. Nine lists so
# stay under a dollar; another one brings its own share along, and a poll each minute is not paid for by it.
DOLLARS_A_LIST = 0.11


def test_an_idle_bridge_stays_within_the_cost_of_its_lists() -> None:
    lists = [name for name, _, _ in TIMERS if name.startswith("Poll")]
    assert 0 < idle_dollars() < DOLLARS_A_LIST * len(lists)


@pytest.mark.parametrize(
    ("schedule", "runs"),
    [
        ("0 * * * * *", 1440),
        ("5 4/5 * * * *", 288),
        ("5 */5 * * * *", 288),
        ("0 50/20 * * * *", 24),
        ("45 20 * * * *", 24),
        ("0 1,31 */6 * * *", 8),
        ("25 40 2 * * *", 1),
    ],
)
def test_runs_of_a_schedule_are_counted(schedule: str, runs: int) -> None:
    assert runs_a_day(schedule) == runs


@pytest.fixture
def bridge(environment: dict[str, str]) -> Iterator[Bridge]:
    with Simulator("test-key") as pbx:
        own = OWN | {"PBX_BASE_URL": pbx.base_url, "PBX_API_KEY": pbx.api_key}
        bridge = assemble(Settings.from_env(environment | own))
        bridge.storage.ready()
        yield bridge


def test_a_timer_run_stays_within_the_assumed_operations(bridge: Bridge) -> None:
    schedules = {name: text for name, text, _ in SCHEDULES}
    sent = break_connections(bridge.storage, "NONE").sent
    tables = runs = 0
    for turn in range(2):
        for name, schedule, work in TIMERS:
            sent.clear()
            run(bridge, name, work, now() + turn * timedelta(minutes=10))
            if turn:
                paths = [urlsplit(line.split()[1]).path.split("/", 2)[2] for line in sent]
                times = runs_a_day(schedules[schedule])
                runs += times
                tables += times * sum(path.split("(")[0] in TABLES for path in paths)
    assert 0 < tables / runs <= ASSUMED[TABLE_OPERATIONS]


def run(bridge: Bridge, name: str, work: Callable[..., object], moment: datetime) -> None:
    """Run a timer's work; polls run at `moment`, because one at the present would follow the last too soon."""
    if name == "PollLostCalls":
        poll_lost_calls(bridge, at=moment)
    elif isinstance(work, partial) and name.startswith("Poll"):
        poll(bridge, work.keywords["resource"], at=moment)
    else:
        work(bridge)
