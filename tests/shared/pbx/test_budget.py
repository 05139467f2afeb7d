"""The budget over real storage: never too many calls, each lane its floor, and few operations of storage."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable

import pytest

from dev.counting import counted
from shared.errors import BudgetExhausted, StorageUnavailable
from shared.pbx import budget as budgets
from shared.pbx.budget import LANES, LIMIT, Budget
from shared.settings import StorageAccount
from shared.storage.account import Storage

# A window of this many seconds in place of a minute.
WINDOW = 3.0


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def start(storage: Storage) -> Callable[..., Budget]:
    """Start the budget of a new process, on the same account."""
    account = uuid.uuid4().hex
    return lambda **options: Budget(storage, account, **options)


def taken(budget: Budget, lane: str) -> int:
    """Take until there is no more; how many there were."""
    for count in range(2 * LIMIT):
        try:
            budget.take(lane)
        except BudgetExhausted:
            return count
    return 2 * LIMIT


def most_in_a_window(moments: Iterable[float], seconds: float) -> int:
    times = sorted(moments)
    return max(sum(first <= moment < first + seconds for moment in times) for first in times)


def test_lanes_leave_their_floors_and_an_action_takes_the_last_call(
    start: Callable[..., Budget],
) -> None:
    clock = Clock()
    found = {lane: taken(start(clock=clock), lane) for lane in reversed(LANES)}
    assert found == {"backfill": 55, "poll": 20, "media": 5, "action": 20}


def test_a_lane_without_room_learns_when_there_is_some_and_without_storage_no_call_is_made(
    start: Callable[..., Budget],
) -> None:
    clock = Clock()
    budget = start(clock=clock, limit=1)
    budget.take("action")
    clock.now += 20
    with pytest.raises(BudgetExhausted) as caught:
        budget.take("action")
    assert caught.value.retry_after == 43
    account = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;TableEndpoint=http://127.0.0.1:9/a;"
    with pytest.raises(StorageUnavailable):
        Budget(Storage(StorageAccount(connection_string=account)), "pbx.example").take("action")


def test_a_place_is_waited_for_in_the_order_of_asking(start: Callable[..., Budget]) -> None:
    first, second = start(limit=1, window=1.0), start(limit=1, window=1.0)
    began = time.monotonic()
    first.take("action")
    second.take("action")
    assert time.monotonic() - began >= 1
    with pytest.raises(BudgetExhausted):
        second.take("action", until=time.monotonic() + 0.5)


def test_the_rest_that_the_pbx_asks_for_holds_for_every_process_and_lane(
    start: Callable[..., Budget], storage: Storage
) -> None:
    clock = Clock()
    budget = start(clock=clock)
    budget.take("poll")
    budget.rest(30)
    budget.rest(10)
    for lane in LANES:
        with pytest.raises(BudgetExhausted) as caught:
            start(clock=clock).take(lane)
        assert caught.value.retry_after == 30
    clock.now += 31
    start(clock=clock).take("action")
    [row] = storage.table("budget").list_entities()
    now = time.time()
    storage.table("budget").update_entity(row | {"rest": now + 60})
    state = budgets.state(storage, row["PartitionKey"])
    assert (state["limit"], state["restsUntil"][:10]) == (100, time.strftime("%Y-%m-%d", time.gmtime(now + 60)))


def test_a_clock_that_is_far_ahead_stops_nobody_for_long(start: Callable[..., Budget]) -> None:
    ahead = Clock()
    ahead.now += 86_400
    assert taken(start(clock=ahead, limit=3), "action") == 3
    with pytest.raises(BudgetExhausted) as caught:
        start(clock=Clock(), limit=3).take("action")
    assert caught.value.retry_after <= 65


def test_a_call_costs_two_operations_of_storage(storage: Storage, start: Callable[..., Budget]) -> None:
    budget = start(clock=Clock())
    budget.take("action")
    adapter = counted(storage)
    crew = [threading.Thread(target=budget.take, args=("action",)) for _ in range(16)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert adapter.count == 2 * 16


# Prints the times of its places, since a busy machine delays later lines.
_PROCESS = f"""
import sys, threading, time
from shared.errors import BudgetExhausted
from shared.pbx.budget import Budget
from shared.settings import StorageAccount
from shared.storage.account import Storage
from dev.counting import counted
class Telling(Budget):
    def _reserve(self, *args):
        moment = super()._reserve(*args)
        print(moment)
        return moment
budget = Telling(Storage(StorageAccount(connection_string=sys.argv[1])), sys.argv[2], window={WINDOW})
end = time.monotonic() + {2.5 * WINDOW}
def draw(lane):
    while time.monotonic() < end:
        try:
            budget.take(lane)
        except BudgetExhausted:
            time.sleep(0.1)
crew = [threading.Thread(target=draw, args=(lane,)) for lane in ("action", "media", "poll", "poll", "backfill")]
for thread in crew: thread.start()
for thread in crew: thread.join()
"""


@pytest.mark.slow
def test_three_processes_flat_out_never_exceed_the_limit_and_use_it(connection_string: str, storage: Storage) -> None:
    command = [sys.executable, "-c", _PROCESS, connection_string, uuid.uuid4().hex]
    crew = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    moments = [float(line) for process in crew for line in process.communicate(timeout=90)[0].split()]
    assert most_in_a_window(moments, WINDOW) <= LIMIT
    assert len(moments) > LIMIT
