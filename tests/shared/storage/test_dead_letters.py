"""Dead letters: one row for each piece of work, and nothing of one lost to another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from shared.storage.dead_letters import dead_letter, dead_letter_refused
from tests.stored import dead_letters

if TYPE_CHECKING:
    from shared.storage.account import Storage


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


@pytest.mark.parametrize(("body", "rows"), [(b"", 3), (b"{", 1)], ids=["empty", "the same"])
def test_refused_bodies_share_a_row_only_where_they_say_the_same(storage: Storage, body: bytes, rows: int) -> None:
    for _ in range(3):
        dead_letter_refused(storage, "CallStarted", "why", body)
    found = dead_letters(storage)
    assert len(found) == rows and sum(row["attempts"] for row in found) == 3
    assert {row["RowKey"].partition("-")[0] for row in found} == {"CallStarted"}
