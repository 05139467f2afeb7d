"""A silent service keeps few threads waiting, and is found again by one that looks."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import ServiceResponseError

from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.deadline import REST_SECONDS, SILENCES, Breaker

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ask(clock: Clock) -> Callable[..., str]:
    breaker = Breaker(clock)

    def ask(seconds: float = 0.0, *, fails: bool = False) -> str:
        try:
            with breaker.passing():
                clock.now += seconds
                if fails:
                    raise ServiceResponseError("nothing")
        except StorageUnavailable:
            return "at once"
        except ServiceResponseError:
            return "failed"
        return "answered"

    return ask


def silence(ask: Callable[..., str]) -> None:
    for _ in range(SILENCES):
        assert ask(3, fails=True) == "failed"


def test_after_silences_in_a_row_others_fail_at_once_and_one_looks(clock: Clock, ask: Callable[..., str]) -> None:
    silence(ask)
    assert [ask() for _ in range(3)] == ["at once"] * 3
    clock.now += REST_SECONDS
    assert ask(3, fails=True) == "failed"
    assert ask() == "at once"
    clock.now += REST_SECONDS
    assert [ask(), ask()] == ["answered"] * 2


def test_an_answer_in_between_and_quick_failures_close_nothing(ask: Callable[..., str]) -> None:
    for _ in range(3):
        ask(3, fails=True)
        assert ask() == "answered"
    for _ in range(20):
        assert ask(fails=True) == "failed"
    assert ask() == "answered"


def test_a_look_that_never_ends_does_not_close_for_ever(clock: Clock, ask: Callable[..., str]) -> None:
    silence(ask)
    clock.now += 60
    assert ask() == "answered"


@pytest.mark.slow
def test_silent_tables_cost_each_caller_nothing_after_a_while(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        parts = dict(part.split("=", 1) for part in environment["DataStorage"].strip(";").split(";"))
        parts["TableEndpoint"] = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        text = ";".join(f"{name}={value}" for name, value in parts.items())
        account = Settings.from_env(environment | {"DataStorage": text}).storage
        storage = Storage(account, read_seconds=1.2)
        with pytest.raises(StorageUnavailable):
            rows.get(storage.table("events"), "p", "r")
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            rows.get(storage.table("calls"), "p", "r")
        assert time.monotonic() - began < 0.5
        storage.queue("events").create_queue()
