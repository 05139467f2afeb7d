"""The consequences of a batch, from values alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.deliveries.outbox import EPOCH, Place, State
from shared.deliveries.policy import DOWN_AFTER, SCHEDULE, judge
from shared.deliveries.post import Outcome
from shared.times import now

NOW = now()
GOOD, BAD = Outcome("delivered", "200", 0.1), Outcome("failed", "500", 0.1)


def place(number: int, replay: str = "", **columns: Any) -> Place:
    return replace(Place.of(NOW + timedelta(seconds=number), f"event{number}", replay), **columns)


def test_one_that_fails_beside_others_has_its_own_schedule_and_they_make_it_count() -> None:
    state = State(streak=3, failing=NOW, failures=3)
    ruling = judge(state, [(place(1), BAD), (place(2), GOOD)], NOW, disabled=False)
    assert [one.tries for one in ruling.again] == [1]
    assert [one.event for one, _ in ruling.finished] == ["event2"]
    assert (ruling.state.streak, ruling.state.failing, ruling.state.failures) == (0, None, 0)


@pytest.mark.parametrize(("failures", "is_down"), [(DOWN_AFTER - 1, False), (DOWN_AFTER, True)])
def test_five_events_without_a_success_make_a_subscriber_down(failures: int, is_down: bool) -> None:
    ruling = judge(State(), [(place(n), BAD) for n in range(failures)], NOW, disabled=False)
    assert (ruling.state.rounds > 0, ruling.state.resume > NOW) == (is_down, is_down)
    # What waits with its subscriber keeps its place.
    assert len(ruling.again) == (0 if is_down else failures)


@pytest.mark.parametrize("delivered", [None, NOW], ids=["nothing since", "others since"])
def test_the_last_try_is_one_only_where_others_succeed(delivered: datetime | None) -> None:
    tried = place(1, tries=len(SCHEDULE), first=NOW - timedelta(days=3))
    ruling = judge(State(delivered=delivered), [(tried, BAD)], NOW, disabled=False)
    assert [reason for _, reason in ruling.dead] == (["the last attempt: 500"] if delivered else [])
    assert len(ruling.again) == (0 if delivered else 1)


def test_a_pause_that_is_asked_for_is_kept_and_counts_as_a_round_where_nothing_gets_through() -> None:
    busy = Outcome("failed", "429", 0.1, wait=120)
    alone = judge(State(), [(place(1), busy)], NOW, disabled=False)
    assert (alone.state.rounds, alone.state.resume) == (1, NOW + timedelta(seconds=120))
    beside = judge(State(), [(place(1), busy), (place(2), GOOD)], NOW, disabled=False)
    assert (beside.state.rounds, beside.state.resume, beside.again) == (0, NOW + timedelta(seconds=120), [])


@pytest.mark.parametrize("outcome", [GOOD, BAD], ids=["delivered", "failed"])
def test_a_replay_counts_neither_for_nor_against_its_subscriber(outcome: Outcome) -> None:
    state = State(rounds=3, streak=9, failing=NOW, failures=9, resume=NOW, result="503")
    ruling = judge(state, [(place(n, "token"), outcome) for n in range(8)], NOW, disabled=True)
    assert ruling.state == state
    assert not ruling.recover
    assert len(ruling.finished) + len(ruling.again) == 8


def test_an_event_that_is_gone_says_nothing_of_its_subscriber() -> None:
    ruling = judge(State(), [(place(1), Outcome("lost", "the event is gone", 0.0))], NOW, disabled=False)
    assert ([reason for _, reason in ruling.dead], ruling.state.result) == (["the event is gone"], "")


def test_five_days_of_failures_disable_and_a_success_recovers() -> None:
    failing = State(failing=NOW - timedelta(days=6), rounds=9, streak=9)
    assert judge(failing, [(place(1), BAD)], NOW, disabled=False).disable
    assert not judge(failing, [(place(1), BAD)], NOW, disabled=True).disable
    assert judge(failing, [(place(1), BAD)], NOW, disabled=True, trying=True).disable
    recovered = judge(failing, [(place(1), GOOD)], NOW, disabled=True)
    assert (recovered.recover, recovered.disable, recovered.state.resume) == (True, False, EPOCH)
