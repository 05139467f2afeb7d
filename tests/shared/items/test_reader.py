"""Stored items: exact, newest first however many there are, and in the order of their arrival."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.items import reader as items
from shared.items.head import heads
from shared.items.intake import Intake, Stale, row_of
from shared.pbx.resources import RESOURCES
from shared.storage.account import Storage
from shared.times import now
from tests.counting import counted

if TYPE_CHECKING:
    from shared.items.reader import Item
    from shared.settings import Settings

FIXTURES = Path(__file__).parents[2] / "fixtures" / "resources"
NAME = "call_history"
LARGEST = 2**63 - 1


def add(storage: Storage, ids: list[int], **fields: Any) -> int:
    rows = [row_of(number, {"callID": number, **fields}) for number in ids]
    return Intake(storage, NAME).add(rows, now())


def ids(found: list[Item]) -> list[int]:
    return [item["callID"] for item in found]


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.name)
def test_an_item_comes_back_as_it_was_sent(resource: Any, storage: Storage) -> None:
    for item in json.loads((FIXTURES / f"{resource.name}.json").read_text())["data"]:
        number = item[resource.id_field]
        Intake(storage, resource.name).add([row_of(number, item)], now())
        assert items.get(storage, resource.name, number) == item
        assert item in items.query(storage, resource.name)


def test_every_resource_has_its_fixture() -> None:
    assert {path.stem for path in FIXTURES.glob("*.json")} == {resource.name for resource in RESOURCES}


@pytest.mark.parametrize("size", [100, 29_000, 31_000, 400_000])
def test_an_item_of_any_size_is_kept_whole(size: int, storage: Storage) -> None:
    noise = random.Random(1).randbytes(size // 2).hex()
    big = {"callID": LARGEST, "notes": noise, "title": "ā", "nested": [{"id": LARGEST}]}
    Intake(storage, NAME).add([row_of(number, {**big, "callID": number}) for number in (1, 2, LARGEST)], now())
    assert items.get(storage, NAME, LARGEST) == big
    assert items.query(storage, NAME, limit=5) == [{**big, "callID": number} for number in (LARGEST, 2, 1)]
    known = items.known(storage, NAME, [1])
    Intake(storage, NAME).overwrite([row_of(1, {"callID": 1, "small": True}, known[1])], now())
    assert items.get(storage, NAME, 1) == {"callID": 1, "small": True}


SPREADS = {
    "dense": list(range(1, 701)),
    "even": list(range(10**15, 10**15 + 700 * 10**6, 10**6)),
    "two clusters far apart": [*range(1, 351), *range(LARGEST - 349, LARGEST + 1)],
    "a few and a crowd": [5, 10**9, 10**12, *range(10**15, 10**15 + 697)],
}


@pytest.mark.slow
@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
def test_the_newest_come_first_however_the_ids_are_spread(spread: list[int], storage: Storage) -> None:
    add(storage, spread)
    newest = spread[::-1]
    assert ids(items.query(storage, NAME, limit=50)) == newest[:50]
    assert ids(items.query(storage, NAME)) == newest
    assert ids(items.query(storage, NAME, below=newest[20], limit=300)) == newest[21:321]
    assert ids(items.query(storage, NAME, below=newest[500], above=newest[650])) == newest[501:650]
    assert ids(items.query(storage, NAME, above=newest[3])) == newest[:3]


def test_the_newest_cost_one_read(storage: Storage) -> None:
    add(storage, list(range(1, 301)))
    heads.forget()
    adapter = counted(storage)
    assert len(items.query(storage, NAME, limit=50)) == 50
    assert len(items.query(storage, NAME, limit=200)) == 200
    assert adapter.count == 1


def test_nothing_stored_is_an_empty_list(storage: Storage) -> None:
    assert items.query(storage, NAME) == []
    assert items.arrived_after(storage, NAME, items.present(storage, NAME), 10) == []
    assert items.get(storage, NAME, 1) is None


def test_items_come_smallest_first_from_the_head_and_from_below_it(storage: Storage) -> None:
    numbers = [3 * number for number in range(1, 451)]
    add(storage, numbers[:50])
    add(storage, numbers[50:])
    everything = [item["callID"] for item in items.upwards(storage, NAME, above=-1, below=LARGEST + 1)]
    assert everything == numbers
    assert ids(list(items.upwards(storage, NAME, above=30, below=42))) == [33, 36, 39]
    adapter = counted(storage)
    assert ids(list(items.upwards(storage, NAME, above=numbers[-20], below=LARGEST + 1))) == numbers[-19:]
    assert adapter.count <= 1
    known = items.known(storage, NAME, [33])
    gone = row_of(33, {"callID": 33}, known[33], removed=True)
    Intake(storage, NAME).write([gone], now())
    assert ids(list(items.upwards(storage, NAME, above=30, below=42))) == [36, 39]
    assert list(items.upwards(storage, "contacts", above=-1, below=LARGEST)) == []


def test_a_baseline_is_stored_and_does_not_arrive(storage: Storage) -> None:
    state = items.present(storage, NAME)
    rows = [row_of(number, {"callID": number}, baseline=number < 3) for number in (1, 2, 3)]
    assert Intake(storage, NAME).add(rows, now()) == 3
    assert ids(items.query(storage, NAME)) == [3, 2, 1]
    assert ids([item for _, item in items.arrived_after(storage, NAME, state, 10)]) == [3]


def test_arrivals_come_in_order_each_once_with_any_ids(storage: Storage) -> None:
    add(storage, [500, 600])
    state = items.present(storage, NAME)
    add(storage, [1, 2, 3])
    add(storage, list(range(1000, 1150)))
    add(storage, [4])
    seen: list[int] = []
    while found := items.arrived_after(storage, NAME, state, 40):
        assert len(found) <= 40
        assert [int(arrival) for arrival, _ in found] == sorted(int(arrival) for arrival, _ in found)
        seen += ids([item for _, item in found])
        state = found[-1][0]
        assert len(state) <= 18
    assert seen[:3] == [1, 2, 3]
    assert seen[-1] == 4
    assert sorted(seen) == [1, 2, 3, 4, *range(1000, 1150)]


def again(storage: Storage, number: int) -> None:
    """An item goes, and comes back."""
    for removed in (True, False):
        known = items.known(storage, NAME, [number])
        Intake(storage, NAME).write([row_of(number, {"callID": number}, known[number], removed=removed)], now())


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_what_went_and_came_again_is_in_an_answer_once_where_it_came_last(limit: int, storage: Storage) -> None:
    before = items.present(storage, NAME)
    add(storage, [1, 2])
    again(storage, 1)
    add(storage, [3])
    again(storage, 1)
    seen, state = list[list[int]](), before
    while found := items.arrived_after(storage, NAME, state, limit):
        seen.append(ids([item for _, item in found]))
        assert [int(arrival) for arrival, _ in found] == sorted({int(arrival) for arrival, _ in found})
        state = found[-1][0]
    assert all(len(answer) == len(set(answer)) <= limit for answer in seen)
    assert sorted({number for answer in seen for number in answer}) == [1, 2, 3]
    assert seen[-1][-1] == 1
    if limit == 10:
        assert seen == [[2, 3, 1]]


def test_an_item_is_added_once(storage: Storage) -> None:
    assert add(storage, [1, 2]) == 2
    assert add(storage, [1, 2, 3]) == 1
    assert [number for _, number in _arrived(storage)] == [1, 2, 3]
    assert heads(storage).read(NAME).count == 3


def _arrived(storage: Storage) -> list[tuple[str, int]]:
    return [(arrival, item["callID"]) for arrival, item in items.arrived_after(storage, NAME, "", 100)]


def test_writers_at_the_same_time_take_turns(settings: Settings) -> None:
    storages = [Storage(settings.storage) for _ in range(4)]
    storages[0].ready()
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda storage: add(storage, list(range(1, 250))), storages))
    assert sum(added) == 249
    arrivals = items.arrived_after(storages[0], NAME, "", 1000)
    assert sorted(ids([item for _, item in arrivals])) == list(range(1, 250))
    assert len({arrival for arrival, _ in arrivals}) == 249
    head = heads(storages[0]).read(NAME)
    assert (head.count, head.smallest, head.largest) == (249, 1, 249)


def test_a_write_on_an_old_view_is_refused(storage: Storage) -> None:
    add(storage, [1])
    stale = Intake(storage, NAME)
    add(storage, [2])
    with pytest.raises(Stale):
        stale.write([row_of(3, {"callID": 3})], now())


def test_what_is_gone_is_listed_nowhere_and_still_known(storage: Storage) -> None:
    add(storage, list(range(1, 301)))
    gone = [2, 150, 299, 300]
    known = items.known(storage, NAME, gone)
    rows = [row_of(number, {"callID": number}, known[number], removed=True) for number in gone]
    Intake(storage, NAME).write(rows, now())
    left = [number for number in range(300, 0, -1) if number not in gone]
    assert ids(items.query(storage, NAME)) == left
    assert list(heads(storage).read(NAME).newest) == left[:197]
    assert items.get(storage, NAME, 299) is None
    assert items.stored(storage, NAME, 299) == {"callID": 299}
    assert not set(gone) & {number for _, number in _arrived(storage)}
    assert items.known(storage, NAME, gone)[2].removed
    assert heads(storage).read(NAME).count == 296
