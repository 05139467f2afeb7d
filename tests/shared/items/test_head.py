"""Heads: what a process remembers of them is a second old at most, and never older than what it wrote."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from shared.items.head import STALE_SECONDS, Head, Heads, heads
from shared.items.intake import Intake, row_of
from shared.storage.account import Storage
from shared.times import now
from tests.counting import counted

if TYPE_CHECKING:
    from shared.settings import Settings

NAME = "contacts"


def add(storage: Storage, number: int) -> None:
    Intake(storage, NAME).add([row_of(number, {"contactID": number})], now())


def test_others_are_noticed_after_a_second_and_storage_is_asked_once_until_then(storage: Storage) -> None:
    time = 100.0
    ours = Heads(storage, clock=lambda: time)
    assert ours.recent(NAME).largest == 0
    add(storage, 1)
    adapter = counted(storage)
    time += STALE_SECONDS * 0.99
    assert [ours.recent(NAME).largest for _ in range(10)] == [0] * 10
    assert adapter.count == 0
    time += STALE_SECONDS * 0.02
    assert [ours.recent(NAME).largest for _ in range(10)] == [1] * 10
    assert adapter.count == 1


def test_what_the_process_wrote_itself_is_seen_at_once(storage: Storage) -> None:
    for number in (1, 2, 3):
        add(storage, number)
        assert sorted(heads(storage).recent(NAME).newest) == list(range(1, number + 1))


def test_what_is_known_is_not_undone_by_something_older(storage: Storage) -> None:
    times = iter([2.0, 1.5, 2.5])
    ours = Heads(storage, clock=lambda: next(times))
    newer, older = Head(newest={2: "{}"}), Head(newest={1: "{}"})
    ours.written(NAME, newer)
    ours.written(NAME, older)
    assert ours.recent(NAME) == newer


def test_writers_in_other_processes_are_seen_by_the_next_write(settings: Settings) -> None:
    storages = [Storage(settings.storage) for _ in range(3)]
    storages[0].ready()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(add, storages, (1, 2, 3)))
    add(storages[0], 4)
    assert sorted(heads(storages[0]).recent(NAME).newest) == [1, 2, 3, 4]
