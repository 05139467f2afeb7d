"""A process has one of a thing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.once import once


def test_threads_that_ask_first_together_get_the_same_one() -> None:
    together = threading.Barrier(8)

    @once
    def make(name: str) -> object:
        threading.Event().wait(0.02)
        return object()

    def ask(name: str) -> object:
        together.wait(10)
        return make(name)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(ask, ["one"] * 8))
    assert len({id(one) for one in made}) == 1
    assert make("other") is not made[0]


def test_an_error_is_not_kept_and_what_is_forgotten_is_made_again() -> None:
    results = iter([OSError(), 1, 2])

    @once
    def make() -> int:
        match next(results):
            case Exception() as error:
                raise error
            case number:
                return number

    with pytest.raises(OSError):
        make()
    assert (make(), make()) == (1, 1)
    make.forget()
    assert make() == 2
