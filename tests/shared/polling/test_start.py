"""After a start or a deployment one process sweeps and reconciles soon, and only one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.polling import start as starts
from shared.polling.poll import poll
from shared.polling.start import after_start
from shared.times import now
from tests.polls import CALLS, stored_ids, submitted

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from dev.simulator import Simulator
    from shared.bridge import Bridge


def test_a_process_sweeps_and_reconciles_once_and_those_that_begin_with_it_do_not(
    pbx: Simulator, start: Callable[[], Bridge]
) -> None:
    begin = now() - timedelta(hours=1)
    one = start()
    poll(one, CALLS, at=begin)
    pbx.add("call_history", callStarted=begin, callEnded=begin + timedelta(minutes=1), contactID=5)
    poll(one, CALLS, at=begin + timedelta(minutes=2))
    late = pbx.add("call_history", 7, callStarted=begin, callEnded=begin + timedelta(minutes=3), contactID=5)
    assert after_start(one, at=begin + timedelta(minutes=20))
    assert late in stored_ids(one.storage, CALLS.name)
    assert {name for name, _ in submitted(one.storage)} == {"CallStarted", "CallCompleted"}
    assert not after_start(one, at=begin + timedelta(minutes=50))
    assert not after_start(start(), at=begin + timedelta(minutes=21))
    assert after_start(start(), at=begin + timedelta(minutes=30))


def test_another_release_looks_at_once(start: Callable[[], Bridge], monkeypatch: pytest.MonkeyPatch) -> None:
    moment = now()
    assert after_start(start(), at=moment)
    monkeypatch.setattr(starts, "release", lambda: "another")
    assert after_start(start(), at=moment + timedelta(seconds=10))
    assert not after_start(start(), at=moment + timedelta(seconds=20))


def test_a_pbx_that_is_away_fails_no_timer(pbx: Simulator, start: Callable[[], Bridge]) -> None:
    pbx.faults.add("status", status=503)
    assert after_start(start())
