"""The budget over real storage: never too many calls, the right callers first, and little asked of storage."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import BudgetExhausted, StorageUnavailable
from shared.pbx.budget.budget import LANES, Budget
from shared.pbx.budget.ledger import Terms
from shared.settings import StorageAccount
from shared.storage.account import Storage
from tests.counting import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LIMIT = 100
# A twentieth of the true times: a window of three seconds.
QUICK = Terms(scale=0.05)
WINDOW = QUICK.window * QUICK.scale


@pytest.fixture
def start(storage: Storage) -> Callable[..., Budget]:
    """Start what a new process would have, always on the same account."""
    account = uuid.uuid4().hex

    def budget(terms: Terms = QUICK, **options: Any) -> Budget:
        return Budget(storage, account, terms=terms, **options)

    return budget


def taken(budget: Budget, lane: str, most: int = 2 * LIMIT) -> int:
    """Take until there is no more; how many there were."""
    for count in range(most):
        try:
            budget.take(lane)
        except BudgetExhausted:
            return count
    return most


def most_in_a_window(moments: Iterable[float], seconds: float) -> int:
    times, first, most = sorted(moments), 0, 0
    for last, moment in enumerate(times):
        while moment - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def spend_in_processes(connection: str, *changes: dict[str, Any], **plan: Any) -> list[dict[str, Any]]:
    """Run a process for each change of the plan, all on one account; what each was given."""
    plan |= {"connection": connection, "account": uuid.uuid4().hex}
    command = [sys.executable, "-m", "tests.spending"]
    crew = [
        subprocess.Popen([*command, json.dumps(plan | change)], stdout=subprocess.PIPE, text=True) for change in changes
    ]
    return [json.loads(process.communicate(timeout=60)[0]) for process in crew]


@pytest.mark.parametrize(("lane", "room"), [("action", 100), ("media", 80), ("poll", 75), ("backfill", 55)])
def test_a_lane_leaves_the_last_calls_to_those_above_it(lane: str, room: int, start: Callable[..., Budget]) -> None:
    assert taken(start(), lane) == room


def test_lanes_come_in_the_order_of_their_urgency(start: Callable[..., Budget]) -> None:
    budget = start()
    assert {lane: taken(budget, lane) for lane in reversed(LANES)} == {
        "backfill": 55,
        "poll": 20,
        "media": 5,
        "action": 20,
    }


def test_who_gets_no_call_in_two_seconds_learns_when_to_come_back(start: Callable[..., Budget]) -> None:
    budget = start(Terms(limit=1, scale=0.5))
    budget.take("action")
    began = time.monotonic()
    with pytest.raises(BudgetExhausted) as caught:
        budget.take("action")
    assert 0.9 < time.monotonic() - began < 2
    assert 30 <= caught.value.retry_after <= 33


def test_calls_come_back_when_the_window_has_passed(start: Callable[..., Budget]) -> None:
    budget = start(Terms(scale=0.03, patience=100))
    assert taken(budget, "poll", 75) == 75
    began = time.monotonic()
    budget.take("poll")
    assert time.monotonic() - began > 60 * 0.03


def test_calls_made_at_once_do_not_count_for_as_long_as_their_block_might_have_lasted(
    start: Callable[..., Budget],
) -> None:
    budget = start(Terms(limit=20, scale=0.03, patience=100))
    assert taken(budget, "action", 20) == 20
    began = time.monotonic()
    budget.take("action")
    assert 60 * 0.03 < time.monotonic() - began < 80 * 0.03


def test_what_a_dead_process_held_comes_back_by_itself(start: Callable[..., Budget]) -> None:
    terms = Terms(scale=0.03, patience=100)
    dead = start(terms)
    taken(dead, "poll", 10)
    held = sum(block.left for block in dead._held)
    assert held > 0
    del dead
    alive = start(Terms(scale=0.03))
    assert taken(alive, "poll") == 75 - 10 - held
    assert taken(start(terms), "poll", 75) == 75


def test_what_a_living_process_did_not_spend_is_given_back(start: Callable[..., Budget]) -> None:
    hoarder = start()
    taken(hoarder, "poll", 10)
    assert sum(block.left for block in hoarder._held) > 0
    expired = max(block.until for block in hoarder._held)
    threading.Event().wait(expired - time.monotonic() + 0.01)
    hoarder.take("poll")
    assert taken(start(), "poll") + sum(block.left for block in hoarder._held) == 75 - 11


def test_an_unspent_block_is_not_spent_late(start: Callable[..., Budget]) -> None:
    skew = [0.0]
    budget = start(clock=lambda: time.time() + skew[0])
    taken(budget, "poll", 10)
    [held] = budget._held
    skew[0] = 3.0  # the machine slept
    assert not budget._spend(2)
    assert budget._done[held.block.id].count == held.block.count - held.left < held.block.count


@pytest.mark.slow
def test_an_action_is_served_before_polls_that_came_first(start: Callable[..., Budget]) -> None:
    budget, order = start(Terms(limit=30, scale=0.02, patience=600)), []
    taken(budget, "poll", 10)
    budget._drop_expired()
    assert taken(start(Terms(limit=30, scale=0.02)), "action") > 0

    def draw(lane: str) -> None:
        budget.take(lane)
        order.append(lane)

    crew = [threading.Thread(target=draw, args=(lane,)) for lane in ["poll"] * 6 + ["action"]]
    for thread in crew:
        thread.start()
        threading.Event().wait(0.01)
    for thread in crew:
        thread.join(30)
    assert order.index("action") <= 1
    assert len(order) == 7


def test_threads_of_one_process_share_what_there_is(start: Callable[..., Budget]) -> None:
    budget, counts = start(), []
    crew = [threading.Thread(target=lambda: counts.append(taken(budget, "action"))) for _ in range(16)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert sum(counts) == LIMIT


@pytest.mark.slow
def test_three_processes_flat_out_with_clocks_a_second_off_never_exceed_the_limit(connection_string: str) -> None:
    results = spend_in_processes(
        connection_string,
        *({"skew": skew * QUICK.scale} for skew in (-1, 0, 1)),
        seconds=2.5 * WINDOW,
        scale=QUICK.scale,
        lanes={"poll": [2, 0.005], "media": [2, 0.005], "backfill": [1, 0.005], "action": [1, 0.1]},
    )
    moments = [moment for result in results for _, moment, _ in result["grants"]]
    assert len(moments) > LIMIT
    assert most_in_a_window(moments, WINDOW) <= LIMIT


@pytest.mark.slow
def test_an_action_gets_its_call_in_time_while_three_processes_poll_flat_out(connection_string: str) -> None:
    polling = {"poll": [3, 0.001], "media": [1, 0.001]}
    results = spend_in_processes(
        connection_string,
        {"lanes": polling},
        {"lanes": polling},
        {"lanes": polling | {"action": [1, 1.0]}},
        seconds=7,
        scale=1.0,
    )
    waits = [wait for result in results for lane, _, wait in result["grants"] if lane == "action"]
    assert len(waits) >= 6
    assert max(waits) < 2
    assert "action" not in [lane for result in results for lane, _ in result["denied"]]


def test_storage_is_asked_once_for_many_calls(storage: Storage) -> None:
    adapter, budget = counted(storage), Budget(storage, uuid.uuid4().hex, terms=Terms(patience=0.1))
    assert sum(taken(budget, lane) for lane in reversed(LANES)) == LIMIT
    assert adapter.count <= 0.2 * LIMIT


def test_who_is_denied_asks_nothing_of_storage(storage: Storage) -> None:
    budget = Budget(storage, uuid.uuid4().hex, terms=Terms(limit=40, patience=0.1))
    taken(budget, "action")
    adapter = counted(storage)
    for lane in LANES * 5:
        with pytest.raises(BudgetExhausted):
            budget.take(lane)
    assert adapter.count <= 3


@pytest.mark.slow
def test_three_processes_flat_out_cost_storage_little(connection_string: str) -> None:
    """A window and a half with startup and denials, at a tenth of the true times, which makes races likelier."""
    results = spend_in_processes(
        connection_string,
        {},
        {},
        {},
        seconds=9,
        scale=0.1,
        lanes={"poll": [2, 0.001], "media": [2, 0.001], "action": [1, 0.001]},
    )
    calls = sum(len(result["grants"]) for result in results)
    operations = sum(result["operations"] for result in results)
    assert operations / calls <= 0.3, f"{operations} storage operations for {calls} calls"


def test_without_storage_no_call_is_handed_out() -> None:
    account = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;TableEndpoint=http://127.0.0.1:9/a;"
    budget = Budget(Storage(StorageAccount(connection_string=account)), "pbx.example")
    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        budget.take("action")
    assert time.monotonic() - began < 2


def test_a_row_that_cannot_be_read_stops_everybody_for_a_window(start: Callable[..., Budget], storage: Storage) -> None:
    start().take("action")
    [row] = storage.table("budget").list_entities()
    storage.table("budget").update_entity(row | {"blocks": "what?"})
    assert taken(start(), "action") == 0


def test_unknown_lane_is_a_mistake_of_the_caller(start: Callable[..., Budget]) -> None:
    with pytest.raises(KeyError):
        start().take("express")
