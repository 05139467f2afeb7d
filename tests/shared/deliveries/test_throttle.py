"""A gate lets many posts through to who answers fast, few to who is slow, and none to who rests."""

from __future__ import annotations

import json
import pathlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from shared.deliveries.throttle import ALL_SLOW, FAILURES, FAST, FIRST_REST, LONGEST_REST, SLOW, Busy, Throttle


class Clock:
    """Time that passes when told."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gates(clock: Clock) -> Throttle:
    return Throttle(clock)


def opened(gates: Throttle, stack: ExitStack, clock: Clock) -> int:
    """How many posts are let through at once; time is far on, so that nobody is waited for."""
    count = 0
    while count < 50:
        clock.seconds += 0.001
        try:
            stack.enter_context(gates.passing("a"))
        except Busy:
            return count
        count += 1
    return count


def test_a_slow_subscriber_has_few_posts_open(gates: Throttle, clock: Clock) -> None:
    gates.note("a", delivered=True, seconds=3)
    with ExitStack() as stack:
        assert opened(gates, stack, clock) == SLOW
    with ExitStack() as stack:
        assert opened(gates, stack, clock) == SLOW


def test_many_slow_ones_leave_room_for_the_others(gates: Throttle, clock: Clock) -> None:
    gates.note("fast", delivered=True, seconds=0.1)
    with ExitStack() as stack:
        for number in range(ALL_SLOW):
            stack.enter_context(gates.passing(f"silent {number}"))
        clock.seconds += 1.5
        for name in ("silent 0", "silent 99"):
            with pytest.raises(Busy), gates.passing(name):
                pytest.fail("it was let through")
        for _ in range(FAST):
            stack.enter_context(gates.passing("fast"))
    with gates.passing("silent 99"):
        pass


def test_the_host_takes_messages_while_the_slow_ones_are_posted_to() -> None:
    queues = json.loads((pathlib.Path(__file__).parents[3] / "host.json").read_text())["extensions"]["queues"]
    assert queues["newBatchThreshold"] > ALL_SLOW


def test_who_failed_often_takes_no_more_room_than_the_rest(gates: Throttle, clock: Clock) -> None:
    names = [f"dead {number}" for number in range(ALL_SLOW + 4)]
    for name in names * FAILURES:
        gates.note(name, delivered=False, seconds=20)
    clock.seconds += FIRST_REST + 0.1
    count = 0
    with ExitStack() as stack:
        for name in names:
            try:
                stack.enter_context(gates.passing(name))
            except Busy:
                continue
            count += 1
    assert count == ALL_SLOW


def test_a_fast_one_has_more_until_an_answer_is_late(gates: Throttle, clock: Clock) -> None:
    gates.note("a", delivered=True, seconds=0.1)
    with ExitStack() as stack:
        for _ in range(SLOW + 1):
            stack.enter_context(gates.passing("a"))
        clock.seconds += 1.5
        with pytest.raises(Busy), gates.passing("a"):
            pass


def test_who_finds_a_fast_subscriber_s_places_taken_waits_for_one() -> None:
    gates, leave, done = Throttle(), threading.Event(), []

    def pass_through(wait: bool) -> None:
        with gates.passing("a"):
            if wait:
                leave.wait(5)
            done.append(wait)

    gates.note("a", delivered=True, seconds=0.1)
    with ThreadPoolExecutor(FAST + 1) as pool:
        holding = [pool.submit(pass_through, True) for _ in range(FAST)]
        waiting = pool.submit(pass_through, False)
        leave.set()
        for future in (*holding, waiting):
            future.result(5)
    assert len(done) == FAST + 1


def test_one_s_places_are_not_another_s(gates: Throttle) -> None:
    gates.note("a", delivered=False, seconds=20)
    with ExitStack() as stack:
        for _ in range(SLOW):
            stack.enter_context(gates.passing("a"))
        with gates.passing("b"):
            pass


def test_failures_in_a_row_end_the_trying_for_ever_longer(gates: Throttle, clock: Clock) -> None:
    for count in range(1, FAILURES):
        assert gates.note("a", delivered=False, seconds=0) == count
        with gates.passing("a"):
            pass
    rest = FIRST_REST
    for _ in range(12):
        gates.note("a", delivered=False, seconds=0)
        with pytest.raises(Busy) as busy, gates.passing("a"):
            pass
        assert rest < busy.value.seconds < 1.25 * (rest + 3)
        clock.seconds += rest
        rest = min(2 * rest, LONGEST_REST)


def test_after_a_rest_one_finds_out_and_a_success_opens_again(gates: Throttle, clock: Clock) -> None:
    for _ in range(FAILURES):
        gates.note("a", delivered=False, seconds=0)
    clock.seconds += FIRST_REST
    with gates.passing("a"), pytest.raises(Busy) as busy, gates.passing("a"):
        pass
    assert busy.value.seconds >= FIRST_REST
    assert gates.note("a", delivered=True, seconds=0.1) == 0
    with gates.passing("a"), gates.passing("a"):
        pass
