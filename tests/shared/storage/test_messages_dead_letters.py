"""Dead letters: one row for each piece of work, also with concurrent ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from shared.storage.account import Storage
from shared.storage.messages import dead_letter
from tests.stored import dead_letters


def test_another_one_of_the_same_work_adds_up_its_attempts_and_keeps_the_first_time(storage: Storage) -> None:
    dead_letter(storage, kind="k", id="a", reason="one", body=b"1", attempts=2)
    (first,) = dead_letters(storage)
    dead_letter(storage, kind="k", id="a", reason="two", body=b"2")
    (second,) = dead_letters(storage)
    assert (second["attempts"], second["reason"], second["body"]) == (3, "two", "2")
    assert second["first"] == first["first"] and second["last"] > first["last"]


def test_dead_letters_of_one_work_at_once_all_count(storage: Storage) -> None:
    storage.ready()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: dead_letter(storage, kind="k", id="a", reason="r", body=b""), range(6)))
    (dead,) = dead_letters(storage)
    assert dead["attempts"] == 6
