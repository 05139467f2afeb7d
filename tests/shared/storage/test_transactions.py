"""Transactions end as the SDK's own do: the same rows, ETags and errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.data.tables import TableClient, TableTransactionError

from shared.storage.rows import long

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.storage.account import Storage

Operation = tuple[Any, ...]


def row(key: str, **columns: Any) -> dict[str, Any]:
    return {"PartitionKey": "it's", "RowKey": key, **columns}


VALUES = {
    "text": 'ā "q" \r\n--batch',
    "blob": b"\0\1",
    "at": datetime(2026, 1, 1, tzinfo=UTC),
    "id": long(2**40),
    "n": 5,
}
STALE: dict[str, Any] = {
    "etag": "W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\"",
    "match_condition": MatchConditions.IfNotModified,
}
CASES: dict[str, list[Operation]] = {
    "every kind": [
        ("create", row("new", **VALUES)),
        ("upsert", row("there", flag=True), {"mode": "replace"}),
        ("update", row("second", more=1.5)),
        ("delete", row("third")),
    ],
    "there already": [("create", row("new")), ("create", row("there"))],
    "not there": [("upsert", row("there")), ("delete", row("nobody"))],
    "changed since": [("update", row("there", x=1), {"mode": "replace", **STALE})],
    "twice in one": [("upsert", row("there")), ("upsert", row("there"))],
    "too long": [("create", row("new", text="a" * 40_000))],
}


def done(client: Any, operations: list[Operation]) -> Any:
    for key in ("there", "second", "third"):
        client.upsert_entity(row(key, was=key))
    try:
        answers = client.submit_transaction(operations)
    except TableTransactionError as error:
        outcome: Any = (error.status_code, error.error_code, error.index)
    else:
        etags = {str(found.metadata["etag"]) for found in client.list_entities()}
        assert {answer["etag"] for answer in answers if answer.get("etag")} <= etags
        outcome = [bool(answer.get("etag")) for answer in answers]
    rows = [dict(found) for found in client.list_entities()]
    for found in rows:
        client.delete_entity(found["PartitionKey"], found["RowKey"])
    return outcome, rows


@pytest.mark.parametrize("case", CASES)
def test_a_transaction_has_the_sdk_s_effects_and_errors(case: str, settings: Settings, storage: Storage) -> None:
    storage.ready()
    sdk = TableClient.from_connection_string(str(settings.storage.connection_string), "events")
    assert done(storage.table("events"), CASES[case]) == done(sdk, CASES[case])


def test_too_many_operations_are_refused(storage: Storage) -> None:
    storage.ready()
    many = [("create", row(str(number))) for number in range(101)]
    with pytest.raises(HttpResponseError) as refused:
        storage.table("events").submit_transaction(many)
    assert refused.value.status_code == 400
