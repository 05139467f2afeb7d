"""The policy of deliveries: the consequences of a batch's results."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from shared.deliveries.drain import DOWN_AFTER, SCHEDULE, Ruling, judge
from shared.deliveries.outbox import Place, State
from shared.deliveries.post import Outcome
from shared.subscriptions import Subscription
from shared.times import now

NOW = now()
GOOD, BAD = Outcome("delivered", "200", 0.1), Outcome("failed", "500", 0.1)
ACTIVE = Subscription.new(event="CallCompleted", endpoint="https://8.8.8.8/")
DISABLED = replace(ACTIVE, disabled=NOW)


def place(number: int = 1, replay: str = "", **columns: Any) -> Place:
    return replace(Place.of(NOW + timedelta(seconds=number), f"event{number}", replay), **columns)


def ruled(*outcomes: Outcome, state: State | None = None, one: Subscription = ACTIVE) -> Ruling:
    results = [(place(number), outcome) for number, outcome in enumerate(outcomes)]
    return judge(state or State(), results, NOW, one)


def test_one_that_fails_beside_others_has_its_own_schedule_and_they_make_it_count() -> None:
    ruling = ruled(BAD, GOOD, state=State(streak=3, failing=NOW, failures=3))
    assert [one.tries for one in ruling.again] == [1]
    assert [one.event for one, _ in ruling.delivered] == ["event1"]
    assert (ruling.state.streak, ruling.state.failing, ruling.state.failures) == (0, None, 0)


@pytest.mark.parametrize(("failures", "is_down"), [(DOWN_AFTER - 1, False), (DOWN_AFTER, True)])
def test_five_events_without_a_success_make_a_subscriber_down(failures: int, is_down: bool) -> None:
    ruling = ruled(*[BAD] * failures)
    assert (ruling.state.rounds > 0, ruling.state.resume > NOW) == (is_down, is_down)
    # An event that waits with its subscriber keeps its place.
    assert len(ruling.again) == (0 if is_down else failures)


@pytest.mark.parametrize("delivered", [None, NOW], ids=["nothing since", "others since"])
def test_the_last_try_is_one_only_where_others_succeed(delivered: datetime | None) -> None:
    tried = place(tries=len(SCHEDULE), first=NOW - timedelta(days=3))
    ruling = judge(State(delivered=delivered), [(tried, BAD)], NOW, ACTIVE)
    assert [reason for _, reason in ruling.dead] == (["the last attempt: 500"] if delivered else [])
    assert len(ruling.again) == (0 if delivered else 1)


@pytest.mark.parametrize(("asked", "seconds"), [(40, range(40, 41)), (0, range(4, 6)), (1, range(4, 6))])
def test_an_event_waits_as_long_as_it_is_asked_to_and_at_least_by_its_schedule(asked: int, seconds: range) -> None:
    (again,) = ruled(Outcome("failed", "503", 0.1, wait=asked)).again
    assert (again.due - NOW) // timedelta(seconds=1) in seconds


def test_a_pause_that_is_asked_for_is_kept_and_counts_as_a_round_where_nothing_gets_through() -> None:
    busy = Outcome("failed", "429", 0.1, wait=120)
    alone = ruled(busy)
    assert (alone.state.rounds, alone.state.resume) == (1, NOW + timedelta(seconds=120))
    beside = ruled(busy, GOOD)
    assert (beside.state.rounds, beside.state.resume, beside.again) == (0, NOW + timedelta(seconds=120), [])


def test_a_subscriber_that_never_succeeds_is_down_despite_a_short_retry_after() -> None:
    state, waits = State(), []
    for _ in range(7):
        state = ruled(Outcome("failed", "429", 0.1, wait=1), state=state).state
        waits.append((state.resume - NOW).total_seconds())
    assert waits[0] == 1
    assert all(later > earlier * 1.5 for earlier, later in pairwise(waits))
    assert waits[-1] > 280


@pytest.mark.parametrize("outcome", [GOOD, BAD], ids=["delivered", "failed"])
def test_a_replay_counts_neither_for_nor_against_its_subscriber(outcome: Outcome) -> None:
    state = State(rounds=3, streak=9, failing=NOW, failures=9, resume=NOW, result="503")
    ruling = judge(state, [(place(n, "token"), outcome) for n in range(8)], NOW, DISABLED)
    assert ruling.state == state
    assert ruling.disabled is None
    assert len(ruling.delivered) + len(ruling.again) == 8
