"""Retention over ten years: deletes exactly the old months, in any number of runs, and nothing current."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dev.stored import put
from shared.bridge import Bridge
from shared.items.store import Change, downwards, stored, write
from shared.pbx.resources import resource
from shared.polling.run import Checkpoint, Run, save_checkpoint
from shared.privacy.retention import HISTORY, apply_retention
from shared.settings import Settings
from shared.storage import rows
from shared.storage.account import TABLES, Storage
from shared.storage.rows import IN_BATCH, delete_keys
from shared.times import iso, months_before
from tests.breaking import break_connections
from tests.dying import Killed, die_at
from tests.history import CURRENT, FIRST, NOW, TEN_YEARS, fill, item, month, months_of


@pytest.fixture(autouse=True)
def counts_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep counts in memory, so that they are no rows while a test counts rows."""
    monkeypatch.setattr("shared.health.FLUSH_SECONDS", 600)


def kept(numbers: range, since: datetime) -> set[str]:
    return {iso(month(n))[:7] for n in numbers if month(n) >= since}


def fresh(settings: Settings, months: int) -> Bridge:
    chosen = replace(settings, retention_months=months)
    return Bridge(settings=chosen, storage=Storage(chosen.storage), pbx=None)  # type: ignore[arg-type]


def assert_kept(storage: Storage, numbers: range, since: datetime) -> None:
    there = months_of(storage)
    assert len(there) == 17
    assert {name: months for name, months in there.items() if months != kept(numbers, since)} == {}
    contacts = list(storage.table("resources").query_entities("PartitionKey eq 'contacts' and RowKey lt 'a'"))
    assert len(contacts) == 1
    assert len(list(storage.table("dials").query_entities("PartitionKey eq 'limit'"))) == 1


def test_every_table_is_history_or_current() -> None:
    covered = "events feed calls numbers lostcallers resources deliveries dials media deadletters audit ended privacy"
    assert set(TABLES) == CURRENT | {*covered.split(), "health"}
    assert len({name for name, _ in HISTORY}) == len(HISTORY)


def test_nothing_goes_by_default(settings: Settings) -> None:
    assert settings.retention_months == 0
    report = apply_retention(fresh(settings, 0), at=NOW)
    assert (report["rows"], report["complete"]) == ({}, True)


@pytest.mark.parametrize(
    ("moment", "months", "expected"),
    [
        (datetime(2026, 3, 31, 23, 59, tzinfo=UTC), 1, datetime(2026, 2, 28, tzinfo=UTC)),
        (datetime(2024, 3, 30, tzinfo=UTC), 1, datetime(2024, 2, 29, tzinfo=UTC)),
        (datetime(2026, 1, 1, 5, tzinfo=UTC), 13, datetime(2024, 12, 1, tzinfo=UTC)),
        (datetime(2026, 12, 5, tzinfo=UTC), 12, datetime(2025, 12, 5, tzinfo=UTC)),
    ],
)
def test_months_are_those_of_the_calendar(moment: datetime, months: int, expected: datetime) -> None:
    assert months_before(moment, months) == expected


@pytest.mark.slow
def test_of_ten_years_exactly_the_last_months_stay(settings: Settings, storage: Storage) -> None:
    numbers = range(TEN_YEARS)
    fill(storage, numbers)
    before = sum(len(list(storage.table(name).list_entities())) for name in TABLES)
    counted = apply_retention(fresh(settings, 36), dry=True, at=NOW)
    assert counted["complete"]
    assert sum(len(list(storage.table(name).list_entities())) for name in TABLES) == before
    assert_kept(storage, numbers, FIRST)
    done = apply_retention(fresh(settings, 36), at=NOW)
    assert done == counted | {"dryRun": False}
    assert_kept(storage, numbers, datetime(2023, 1, 1, tzinfo=UTC))
    assert len(list(downwards(Storage(settings.storage), "call_records"))) == 36
    again = apply_retention(fresh(settings, 36), at=NOW)
    assert set(again["rows"].values()) == {0}


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before a request", "after one"])
def test_a_run_that_dies_anywhere_is_finished_by_the_next(after: bool, settings: Settings, storage: Storage) -> None:
    numbers, since = range(114, TEN_YEARS), datetime(2025, 10, 1, tzinfo=UTC)
    fill(storage, numbers)
    counting = fresh(settings, 3)
    whole = die_at(counting.storage, 0, after=False)
    apply_retention(counting, at=NOW)
    assert_kept(storage, numbers, since)
    for at in range(3, whole.count, max(whole.count // 8, 1)):
        fill(storage, numbers)
        doomed = fresh(settings, 3)
        die_at(doomed.storage, at, after=after)
        with pytest.raises(Killed):
            apply_retention(doomed, at=NOW)
        assert apply_retention(fresh(settings, 3), at=NOW)["complete"]
        assert_kept(storage, numbers, since)


@pytest.mark.slow
def test_runs_of_no_length_get_to_the_end(
    settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(96, TEN_YEARS)
    fill(storage, numbers)
    monkeypatch.setattr(rows, "_PAGE", 3)
    runs = 1
    while not apply_retention(fresh(settings, 6), at=NOW, seconds=0)["complete"]:
        runs += 1
        assert runs < 100
    assert runs > 2
    assert_kept(storage, numbers, datetime(2025, 7, 1, tzinfo=UTC))


@pytest.mark.slow
def test_two_at_once_do_no_harm(settings: Settings, storage: Storage) -> None:
    numbers = range(96, TEN_YEARS)
    fill(storage, numbers)
    both = threading.Barrier(2)

    def run(_: int) -> Any:
        both.wait()
        return apply_retention(fresh(settings, 6), at=NOW)["complete"]

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(run, range(2)))
    assert_kept(storage, numbers, datetime(2025, 7, 1, tzinfo=UTC))


def test_items_removed_at_the_pbx_are_deleted_too(settings: Settings, storage: Storage) -> None:
    storage.ready()
    bridge = fresh(settings, 6)
    table = storage.table("resources")
    put(storage, "contacts", *({"contactID": id, "firstname": "Anna"} for id in (1, 2, 3)), moment=FIRST)
    known = stored(storage, "contacts")
    for id, moment in ((1, month(100)), (2, month(TEN_YEARS - 1))):
        gone = Change(id=id, item={"contactID": id}, hash="", before=known[id], removed=True)
        write(storage, "contacts", [gone], moment)
    counted = apply_retention(bridge, dry=True, at=NOW)
    assert apply_retention(bridge, at=NOW)["rows"] == counted["rows"]
    assert {row["id"].value for row in table.query_entities("RowKey lt ':'")} == {2, 3}


def test_older_items_are_not_stored_again(settings: Settings, storage: Storage) -> None:
    storage.ready()
    bridge = fresh(settings, 6)
    row = resource("call_history")
    checkpoint = save_checkpoint(storage, Checkpoint(resource=row.name), started=NOW)
    run = Run(bridge=bridge, resource=row, checkpoint=checkpoint, moment=NOW)
    numbers = range(100, TEN_YEARS)
    kept = [number for number in numbers if run.keeps(item(number))]
    assert kept == [number for number in numbers if month(number) >= datetime(2025, 7, 1, tzinfo=UTC)]


@pytest.mark.parametrize("after", [True, False])
def test_a_deletion_without_an_answer_is_tried_again(storage: Storage, after: bool) -> None:
    table = storage.table("events")
    found = [{"PartitionKey": "p", "RowKey": str(number)} for number in range(120)]
    for start in range(0, len(found), IN_BATCH):
        rows.transact(table, [("create", row) for row in found[start : start + IN_BATCH]])
    adapter = break_connections(storage, "POST", "$batch", after=after)
    delete_keys(table, found)
    assert not adapter.left
    assert list(table.list_entities()) == []
