"""The index finds everything of a number, an employee or a call, newest first, with few requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dev.counting import counted
from shared import people
from shared.people import KINDS, Pointer, add, employee, find, number, remove, rows_of
from shared.settings import Settings
from shared.storage import rows
from shared.storage.account import Storage

START = datetime(2026, 11, 25, 13, 54, 19, tzinfo=UTC)
ME = number("27771153", "LV")


def call(minutes: int) -> Pointer:
    moment = START + timedelta(minutes=minutes)
    return Pointer("call", str(int(moment.timestamp()) * 1_000_000), moment)


@pytest.mark.parametrize("spelling", ["27771153", "+37127771153", "0037127771153", "+371 27 771 153", "2777-1153"])
def test_a_number_is_one_subject_however_it_is_written(spelling: str) -> None:
    assert number(spelling, "LV") == ME


def test_other_numbers_employees_calls_and_withheld_ones_are_other_subjects() -> None:
    others = {number(text, "LV") for text in ("27771154", "+37227771153", "112", "", "966")}
    assert len(others | {ME, employee(966), people.call(966)}) == 8
    assert len({number(text, "LV") for text in (None, "", "Anonymous ", "withheld")}) == 1


def test_pointers_are_found_newest_first_and_once(storage: Storage) -> None:
    add(storage, [(ME, call(minutes)) for minutes in (3, 1, 2)])
    add(storage, [(employee(966), call(9)), (ME, call(2))])
    assert find(storage, ME) == [call(3), call(2), call(1)]
    assert find(storage, ME, ["call"], limit=2, start=call(2).place) == [call(2), call(1)]
    assert find(storage, number("1", "LV")) == []


def test_a_range_of_time_includes_both_ends(storage: Storage) -> None:
    add(storage, [(ME, call(minutes)) for minutes in range(5)])
    first, last = call(1).moment, call(3).moment
    assert find(storage, ME, first=first, last=last) == [call(3), call(2), call(1)]
    assert find(storage, ME, ["call"], first=first, limit=2) == [call(4), call(3)]
    assert find(storage, ME, last=first) == [call(1), call(0)]


def test_every_kind_is_found_alone_and_with_all_others(storage: Storage) -> None:
    pointers = [Pointer(kind, id, START) for kind in KINDS for id in ("171118926552", "a2c-x.y", "7" * 30)]
    add(storage, [(ME, one) for one in pointers])
    assert set(find(storage, ME)) == set(pointers)
    assert {one.kind for one in find(storage, ME, ["dial"])} == {"dial"}


def test_removed_pointers_are_gone_and_may_be_removed_again(storage: Storage) -> None:
    add(storage, [(ME, call(minutes)) for minutes in range(250)])
    assert len(find(storage, ME)) == 250
    for _ in range(2):
        remove(storage, [(ME, call(minutes)) for minutes in range(249)])
    assert find(storage, ME) == [call(249)]


def test_no_key_holds_a_number_and_every_process_hashes_alike(storage: Storage, settings: Settings) -> None:
    add(storage, [(ME, call(0))])
    assert not [row for row in storage.table(people.TABLE).list_entities() if "27771153" in row["RowKey"]]
    assert find(Storage(settings.storage), ME) == [call(0)]


@pytest.mark.parametrize("apart", [1, 60 * 24 * 21], ids=["minutes", "weeks"])
def test_a_page_of_rows_is_read_with_few_requests_however_far_apart_they_lie(storage: Storage, apart: int) -> None:
    table, day = storage.table("calls"), 60 * 24
    pointers = [call(number * apart) for number in range(46)] + [call(-day * 300 * number) for number in range(1, 5)]
    keys = [(rows.descending(int(one.id)), one.moment) for one in pointers]
    made = [{"PartitionKey": "call", "RowKey": key} for key, _ in keys]
    # Other rows are between them, and a deleted one.
    made += [{"PartitionKey": "call", "RowKey": rows.descending(int(one.id) + 1)} for one in pointers[:40]]
    table.submit_transaction([("upsert", row) for row in made])
    gone = (rows.descending(int(call(1).id) + 7), call(1).moment)
    requests = counted(storage)
    assert sorted(rows_of(table, "call", [*keys, gone])) == sorted(key for key, _ in keys)
    assert requests.count <= 7
    assert sorted(rows_of(table, "call", keys[:3])) == sorted(key for key, _ in keys[:3])
