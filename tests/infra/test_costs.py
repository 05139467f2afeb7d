"""What the costs of docs/deploy.md take for granted, against what the code does."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from dev.simulator import Simulator
from functions.pollers import TIMERS
from shared.bridge import assemble
from shared.polling.start import after_start
from shared.schedules import SCHEDULES
from shared.settings import Settings
from shared.storage.account import TABLES
from shared.times import now
from tests.breaking import break_connections
from tests.infra.docs import ASSUMED, BLOB_LISTS, TABLE_OPERATIONS, idle_dollars, runs_a_day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from shared.bridge import Bridge

OWN = {"PUBLIC_BASE_URL": "https://func-pbx.test", "PBX_WEBHOOK_KEY": "key", "PBX_EVENTS": "CallStarted"}


def test_an_idle_bridge_costs_less_than_a_dollar() -> None:
    assert 0 < idle_dollars() < 0.95


@pytest.fixture
def bridge(environment: dict[str, str]) -> Iterator[Bridge]:
    """A bridge on a PBX where nothing happens."""
    with Simulator("test-key") as pbx:
        own = OWN | {"PBX_BASE_URL": pbx.base_url, "PBX_API_KEY": pbx.api_key}
        bridge = assemble(Settings.from_env(environment | own))
        bridge.storage.create_all()
        yield bridge


def test_a_timer_run_takes_no_more_operations_than_is_assumed(bridge: Bridge) -> None:
    schedules = {name: text for name, text, _ in SCHEDULES}
    sent = break_connections(bridge.storage, "NONE").sent
    tables = lists = runs = 0
    for turn in range(2):
        for name, schedule, work in TIMERS:
            sent.clear()
            run(bridge, name, work, now() + turn * timedelta(minutes=10))
            if turn:
                paths = [urlsplit(line.split()[1]).path.split("/", 2)[2] for line in sent]
                times = runs_a_day(schedules[schedule])
                runs += times
                tables += times * sum(path.split("(")[0] in TABLES for path in paths)
                lists += times * sum("comp=list" in line for line in sent)
    assert 0 < tables / runs <= ASSUMED[TABLE_OPERATIONS]
    assert lists / runs_a_day(schedules["QUEUE_WAITING_SCHEDULE"]) == ASSUMED[BLOB_LISTS]


def run(bridge: Bridge, name: str, work: Callable[..., object], moment: datetime) -> None:
    """Run a timer as the host does; a poll that was just made would not be made again."""
    if name.startswith("Poll"):
        work(bridge, at=moment)
    else:
        work(bridge)
    after_start(bridge)
