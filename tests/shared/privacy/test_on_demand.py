"""Old history over HTTP: counted and deleted on demand, and a month handed over and dropped, by the operator alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from shared.times import iso
from tests.bridges import KEY, MASTER, RunningBridge, running_bridge
from tests.history import TEN_YEARS, call_id, fill, month, months_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEPT_MONTHS = 12
LONG_AGO = range(40, 44)
CHOSEN = 41
NAME = iso(month(CHOSEN))[:7]


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    with running_bridge(
        new_account(), tmp_path_factory.mktemp("history"), RETENTION_MONTHS=str(KEPT_MONTHS)
    ) as running:
        yield running


def body(running: RunningBridge, method: str, path: str) -> dict[str, Any]:
    answer = running.ask(method, path, MASTER)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.slow
def test_what_would_go_is_counted_before_it_goes(running: RunningBridge) -> None:
    fill(running.storage, range(TEN_YEARS - 20, TEN_YEARS))
    before = months_of(running.storage)
    for key in ("", KEY):
        assert running.ask("POST", "/api/ops/retention", key).status_code == 401
    counted = body(running, "POST", "/api/ops/retention?dry_run=true")
    assert (counted["dryRun"], counted["complete"]) == (True, True)
    assert months_of(running.storage) == before
    tried = body(running, "POST", "/api/ops/retention?months=24&dry_run=true")
    assert (tried["dryRun"], tried["before"] is not None) == (True, True)
    for query in ("months=24", "months=0&dry_run=true", "mnths=24&dry_run=true"):
        assert running.ask("POST", f"/api/ops/retention?{query}", "master-key").status_code == 422
    done = body(running, "POST", "/api/ops/retention")
    assert (done["dryRun"], done["complete"]) == (False, True)
    assert done["rows"] == counted["rows"]
    assert done["rows"]["calls"] > 0
    cut = done["before"][:7]
    assert months_of(running.storage) == {name: {one for one in has if one > cut} for name, has in before.items()}
    assert set(body(running, "POST", "/api/ops/retention")["rows"].values()) == {0}


@pytest.mark.slow
def test_a_month_is_handed_over_and_then_dropped_alone(running: RunningBridge) -> None:
    fill(running.storage, LONG_AGO)
    before = months_of(running.storage)
    lines, continuation = list[dict[str, Any]](), ""
    for _ in range(10):
        path = f"/api/ops/months/{NAME}" + (f"?continuation={continuation}" if continuation else "")
        answer = running.ask("GET", path, MASTER)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
        lines += [json.loads(line) for line in answer.content.splitlines()]
        continuation = answer.headers.get("Continuation", "")
        if not continuation:
            break
    assert [line["kind"] for line in lines] == ["event", "call"]
    assert [line.get("callID") or line["data"]["callID"] for line in lines] == [call_id(CHOSEN)] * 2
    counted = body(running, "DELETE", f"/api/ops/months/{NAME}?dry_run=true")
    assert months_of(running.storage) == before
    assert body(running, "DELETE", f"/api/ops/months/{NAME}")["rows"] == counted["rows"]
    assert months_of(running.storage) == {name: has - {NAME} for name, has in before.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", "2026-13", "month"),
        ("DELETE", "2026", "month"),
        ("DELETE", "9998-01", "month"),
    ],
)
def test_what_is_no_month_or_no_part_of_it_is_refused(
    method: str, path: str, field: str, running: RunningBridge
) -> None:
    assert running.ask(method, f"/api/ops/months/{path}").status_code == 401
    answer = running.ask(method, f"/api/ops/months/{path}", MASTER)
    assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (422, [field])
    answer = running.ask("GET", f"/api/ops/months/{NAME}?continuation=event%20%7B%22a%22%3A1%7D", MASTER)
    assert (answer.status_code, answer.json()["title"]) == (400, "Invalid continuation token")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), [("POST", "retention"), ("DELETE", f"months/{NAME}")])
@pytest.mark.parametrize("query", ["dry_run=1", "dry_run=yes", "dry_run", "dry_run=", "dryRun=true", "dry-run=true"])
def test_nothing_is_deleted_where_it_is_unclear_whether_it_should_be(
    method: str, path: str, query: str, running: RunningBridge
) -> None:
    answer = running.ask(method, f"/api/ops/{path}?{query}", MASTER)
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, query.partition("=")[0])
