"""Single rows: one winner, nothing written twice and nothing lost, even if the answer to a write is lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.data.tables import TableTransactionError

from shared.errors import Conflict, StorageUnavailable
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.rows import Row
from shared.values import LARGEST_ID
from tests.breaking import break_connections

if TYPE_CHECKING:
    from azure.data.tables import TableClient

KEYS = {"PartitionKey": "p", "RowKey": "r"}


@pytest.fixture
def table(storage: Storage) -> TableClient:
    return storage.table("events")


def read(table: TableClient) -> dict[str, Any]:
    row = rows.get(table, "p", "r")
    assert row is not None
    return {name: value for name, value in row.items() if name not in KEYS}


def count(row: Row | None) -> dict[str, Any]:
    return {"n": (row["n"] if row else 0) + 1}


def test_a_missing_row_is_none(table: TableClient) -> None:
    assert rows.get(table, "p", "r") is None
    assert rows.update(table, KEYS | {"n": 1}) is False
    assert rows.delete(table, "p", "r")
    assert rows.delete(table, "p", "r", etag='W/"1"')


def test_a_row_comes_back_as_it_was_written_with_chosen_columns_only(table: TableClient) -> None:
    assert rows.insert(table, KEYS | {"n": 1, "m": "x"})
    assert read(table) == {"n": 1, "m": "x"}
    chosen = rows.get(table, "p", "r", ["m"])
    assert chosen is not None and chosen["m"] == "x" and "n" not in chosen and chosen.etag


@pytest.mark.parametrize("number", [0, 1, 1717149600000000, LARGEST_ID])
def test_descending_keys_sort_the_newest_first_and_are_read_back(number: int) -> None:
    assert rows.from_descending(rows.descending(number)) == number
    assert len(rows.descending(number)) == 20
    assert number == LARGEST_ID or rows.descending(number) > rows.descending(number + 1)


def test_an_insert_leaves_the_row_that_is_there(table: TableClient) -> None:
    assert rows.insert(table, KEYS | {"n": 1})
    assert not rows.insert(table, KEYS | {"n": 2})
    assert read(table) == {"n": 1}


def test_one_of_many_inserts_at_once_is_created(table: TableClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: rows.insert(table, KEYS | {"n": n}), range(8)))
    assert found.count(True) == 1


def test_an_insert_whose_answer_is_lost_is_created_and_not_a_repeat(storage: Storage, table: TableClient) -> None:
    broken = break_connections(storage, "POST", "events")
    assert rows.insert(table, KEYS | {"n": 1})
    assert [one.split()[0] for one in broken.sent] == ["POST", "POST", "GET"]


def test_an_insert_that_never_arrived_is_made_and_a_repeat_s_lost_answer_is_a_repeat(
    storage: Storage, table: TableClient
) -> None:
    break_connections(storage, "POST", "events", after=False)
    assert rows.insert(table, KEYS | {"n": 1})
    break_connections(storage, "POST", "events")
    assert not rows.insert(table, KEYS | {"n": 2})
    assert read(table) == {"n": 1}


def test_an_insert_that_broke_while_another_was_made_is_a_repeat(storage: Storage, table: TableClient) -> None:
    broken = break_connections(storage, "POST", "events", after=False)
    broken.then = lambda: rows.insert(table, KEYS | {"n": 2})
    assert not rows.insert(table, KEYS | {"n": 1})
    assert read(table) == {"n": 2}


def test_a_swap_wins_only_over_the_row_it_knew_and_its_etag_goes_on(storage: Storage, table: TableClient) -> None:
    first = rows.swap(table, KEYS | {"n": 1}, None)
    break_connections(storage, "PUT", "events")
    second = first and rows.swap(table, KEYS | {"n": 2}, first.etag)
    assert first and second and second.etag != first.etag
    for etag in (first.etag, None):
        assert rows.swap(table, KEYS | {"n": 3}, etag) is None
    assert read(table) == {"n": 2}
    third = rows.swap(table, KEYS | {"n": 3}, second.etag)
    rows.delete(table, "p", "r")
    assert third and rows.swap(table, KEYS | {"n": 4}, third.etag) is None


@pytest.mark.parametrize("after", [True, False], ids=["answer lost", "request lost"])
def test_changes_by_many_at_once_all_count_once(storage: Storage, table: TableClient, after: bool) -> None:
    for done in range(3):
        broken = break_connections(storage, "PUT", "events", after=after)
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(lambda _: [rows.change(table, "p", "r", count) for _ in range(2)], range(5)))
        assert broken.left == 0
        assert read(table) == {"n": 10 * (done + 1)}


def test_a_change_that_leaves_the_row_alone_writes_nothing(table: TableClient) -> None:
    assert rows.change(table, "p", "r", lambda row: None) is None
    assert rows.get(table, "p", "r") is None


def test_a_known_row_saves_the_read_and_an_outdated_one_costs_one(storage: Storage, table: TableClient) -> None:
    known = rows.change(table, "p", "r", count, known=None)
    watched = break_connections(storage, "none")
    known = rows.change(table, "p", "r", count, known=known)
    assert [one.split()[0] for one in watched.sent] == ["PUT"]
    rows.change(table, "p", "r", count)
    changed = rows.change(table, "p", "r", count, known=known)
    assert changed is not None and changed["n"] == 4 and read(table) == {"n": 4}


def test_a_change_that_loses_every_race_is_a_conflict(table: TableClient) -> None:
    def beaten(row: Row | None) -> dict[str, Any]:
        rows.put(table, KEYS | {"n": 0})
        return {"n": 1}

    with pytest.raises(Conflict, match="events"):
        rows.change(table, "p", "r", beaten)


def test_merged_columns_stand_beside_the_others_also_where_the_answer_is_lost(
    storage: Storage, table: TableClient
) -> None:
    break_connections(storage, "PATCH", "events", times=2)
    rows.merge(table, KEYS | {"n": 1})
    rows.merge(table, KEYS | {"m": 2})
    assert rows.update(table, KEYS | {"o": 3})
    assert read(table) == {"n": 1, "m": 2, "o": 3}


def test_a_row_is_deleted_only_as_it_was_known(table: TableClient) -> None:
    rows.insert(table, KEYS | {"n": 1})
    known = rows.get(table, "p", "r")
    rows.put(table, KEYS | {"n": 2})
    assert known is not None and not rows.delete(table, "p", "r", etag=known.etag)
    assert read(table) == {"n": 2}
    assert rows.delete(table, "p", "r") and rows.get(table, "p", "r") is None


@pytest.mark.parametrize("times", [1, 2, 9])
def test_a_transaction_whose_answer_is_lost_is_sent_three_times(
    storage: Storage, table: TableClient, times: int
) -> None:
    broken = break_connections(storage, "POST", "$batch", times=times)
    with pytest.raises(StorageUnavailable) if times > 2 else nullcontext():
        answers = rows.transact(table, [("upsert", KEYS | {"n": 1}), ("upsert", KEYS | {"RowKey": "s", "n": 2})])
        assert (len(answers), read(table)) == (2, {"n": 1})
    assert len([one for one in broken.sent if "$batch" in one]) == min(times + 1, 3)


def test_a_repeated_transaction_conflicts_with_its_own_row(storage: Storage, table: TableClient) -> None:
    break_connections(storage, "POST", "$batch")
    with pytest.raises(TableTransactionError) as caught:
        rows.transact(table, [("create", KEYS | {"n": 1})])
    assert caught.value.status_code in rows.LOST
    assert read(table) == {"n": 1}


def of(key: str, **columns: Any) -> dict[str, Any]:
    return {"PartitionKey": "it's", "RowKey": key, **columns}


VALUES = {
    "text": 'ā "q" \r\n--batch_0',
    "blob": b"\0\1",
    "at": datetime(2026, 1, 1, tzinfo=UTC),
    "id": rows.long(2**40),
    "n": 5,
}
STALE: dict[str, Any] = {
    "etag": "W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\"",
    "match_condition": MatchConditions.IfNotModified,
}
TRANSACTIONS: dict[str, list[tuple[Any, ...]]] = {
    "every kind": [
        ("create", of("new", **VALUES)),
        ("upsert", of("there", flag=True), {"mode": "replace"}),
        ("update", of("second", more=1.5)),
        ("delete", of("third")),
    ],
    "there already": [("create", of("new")), ("create", of("there"))],
    "not there": [("upsert", of("there")), ("delete", of("nobody"))],
    "changed since": [("update", of("there", x=1), {"mode": "replace", **STALE})],
    "twice in one": [("upsert", of("there")), ("upsert", of("there"))],
    "too long": [("create", of("new", text="a" * 40_000))],
}


def done(table: TableClient, transact: Callable[[TableClient, Any], Any], operations: list[tuple[Any, ...]]) -> Any:
    for key in ("there", "second", "third"):
        table.upsert_entity(of(key, was=key))
    try:
        answers = transact(table, operations)
    except TableTransactionError as error:
        outcome: Any = (error.status_code, error.error_code, error.index)
    else:
        etags = {str(found.metadata["etag"]) for found in table.list_entities()}
        assert {answer["etag"] for answer in answers if answer.get("etag")} <= etags
        outcome = [bool(answer.get("etag")) for answer in answers]
    left = [dict(found) for found in table.list_entities()]
    for found in left:
        table.delete_entity(found["PartitionKey"], found["RowKey"])
    return outcome, left


@pytest.mark.parametrize("case", TRANSACTIONS)
def test_a_transaction_has_the_sdk_s_effects_and_errors(case: str, table: TableClient) -> None:
    operations = TRANSACTIONS[case]
    assert done(table, rows.transact, operations) == done(table, type(table).submit_transaction, operations)


def test_too_many_operations_and_a_column_of_no_type_are_refused(table: TableClient) -> None:
    with pytest.raises(HttpResponseError) as refused:
        rows.transact(table, [("create", of(str(number))) for number in range(101)])
    assert refused.value.status_code == 400
    for value in (2**31, {}):
        with pytest.raises(TypeError, match="column n"):
            rows.transact(table, [("create", of("a", n=value))])
