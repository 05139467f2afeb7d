"""Items are read by id at any distance, and arrival numbers never decrease."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from dev.counting import counted
from dev.stored import put
from shared.items import store
from shared.items.store import BODY_MISSING, Change, arrived_after, downwards, get, present, stored, upwards, write
from shared.settings import Settings
from shared.storage.account import Storage
from shared.times import now
from shared.values import LARGEST_ID

NAME = "call_history"
ODD = [0, 1, 9, 10, 2**31, 1524664459097344, LARGEST_ID - 1, LARGEST_ID]


def calls(*ids: int) -> list[dict[str, Any]]:
    return [{"callID": id, "direction": "in"} for id in ids]


def ids(found: Any) -> list[int]:
    return [item["callID"] for item in found]


def test_ids_are_exact_and_listed_from_both_ends(storage: Storage) -> None:
    put(storage, NAME, *calls(*ODD))
    assert ids(downwards(storage, NAME)) == ODD[::-1]
    assert ids(upwards(storage, NAME, above=-1)) == ODD
    assert ids(upwards(storage, NAME, above=9, below=LARGEST_ID)) == ODD[3:-1]
    assert set(stored(storage, NAME)) == set(stored(storage, NAME, ODD)) == set(ODD)
    assert set(stored(storage, NAME, [9, 11, LARGEST_ID])) == {9, LARGEST_ID}
    assert get(storage, NAME, LARGEST_ID) == {"callID": LARGEST_ID, "direction": "in"}


@pytest.mark.slow
def test_many_are_read_from_both_ends_and_neighbours_in_one_request(storage: Storage) -> None:
    numbers = [*range(5_000_000, 5_002_400, 2), LARGEST_ID]
    put(storage, NAME, *calls(*numbers), arrives=False)
    assert ids(upwards(storage, NAME, above=5_000_099)) == [one for one in numbers if one > 5_000_099]
    requests = counted(storage)
    assert len(stored(storage, NAME, numbers[:900])) == 900
    assert requests.count == 1
    # A distant item costs a few requests, not those of the rows between.
    assert set(stored(storage, NAME, [numbers[0], LARGEST_ID])) == {numbers[0], LARGEST_ID}
    assert requests.count <= 4


@pytest.mark.slow
def test_arrivals_are_handed_on_in_their_order_once_and_from_any_state(storage: Storage) -> None:
    assert present(storage, NAME) == "99"
    put(storage, NAME, *calls(5, 3))
    begin = present(storage, NAME)
    put(storage, NAME, *calls(7), arrives=False)
    put(storage, NAME, *calls(1, 9))
    put(storage, NAME, *calls(*range(100, 350)))
    assert ids(item for _, item in arrived_after(storage, NAME, "0", 4)) == [3, 5, 1, 9]
    assert ids(item for _, item in arrived_after(storage, NAME, begin, 1000)) == [1, 9, *range(100, 350)]
    seen, state = list[int](), "0"
    while found := arrived_after(storage, NAME, state, 3):
        seen += ids(item for _, item in found)
        state = found[-1][0]
    assert seen == [3, 5, 1, 9, *range(100, 350)]
    assert arrived_after(storage, NAME, present(storage, NAME), 3) == []


def test_writers_at_once_take_turns_and_one_of_them_writes_an_item(storage: Storage, settings: Settings) -> None:
    def run(number: int) -> None:
        put(Storage(settings.storage), NAME, *calls(*range(50)), *calls(100 + number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    arrived = ids(item for _, item in arrived_after(storage, NAME, "0", 1000))
    assert sorted(arrived) == [*range(50), 100, 101, 102, 103]


def test_what_somebody_else_has_written_meanwhile_stays(storage: Storage) -> None:
    put(storage, NAME, *calls(1, 2))
    before = stored(storage, NAME)
    ours = [Change(id=id, item={"callID": id, "direction": "ours"}, hash="b", before=before[id]) for id in (1, 2)]
    write(storage, NAME, [replace(ours[0], item={"callID": 1, "direction": "theirs"})], now())
    write(storage, NAME, ours, now())
    assert [item["direction"] for item in downwards(storage, NAME)] == ["ours", "theirs"]


def test_long_items_are_kept_as_blobs_and_one_without_its_blob_is_marked(storage: Storage) -> None:
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=200_000))
    long = [{"callID": 1, "x": "a" * 100_000}, {"callID": 2, "x": noise}, {"callID": 3, "x": noise[::-1]}]
    put(storage, NAME, *long)
    assert list(downwards(storage, NAME)) == long[::-1]
    names = [blob.name for blob in storage.container("payloads").list_blobs()]
    assert len(names) == 3
    storage.container("payloads").delete_blob(next(name for name in names if "/3-" in name))
    assert list(downwards(storage, NAME)) == [{"callID": 3, BODY_MISSING: True}, *long[1::-1]]
    assert [item for _, item in arrived_after(storage, NAME, "0", 9)][2] == {"callID": 3, BODY_MISSING: True}
    assert store.get(storage, NAME, 3) == {"callID": 3, BODY_MISSING: True}
