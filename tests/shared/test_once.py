"""A process has one of a thing, and loads work once it is asked for, with no room it lives in before."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.once import once

ROOT = Path(__file__).parents[2]


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


def test_the_app_loads_neither_polling_nor_processing_before_they_are_asked_for() -> None:
    code = "import sys, function_app; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    early = {"pydantic", "requests", "azure.core", "azure.data.tables", "cryptography", "phonenumbers"}
    rooms = ("shared.polling.", "shared.media.copy", "shared.deliveries.", "shared.webhooks.sync")
    assert not loaded & early
    assert [name for name in loaded if name.startswith(rooms)] == []
