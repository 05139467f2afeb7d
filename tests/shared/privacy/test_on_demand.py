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

pytestmark = pytest.mark.slow

CHOSEN = 41
NAME = iso(month(CHOSEN))[:7]


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    with running_bridge(new_account(), tmp_path_factory.mktemp("history"), RETENTION_MONTHS="12") as running:
        yield running


def body(running: RunningBridge, method: str, path: str) -> dict[str, Any]:
    answer = running.ask(method, f"/api/ops/{path}", MASTER)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_what_would_go_is_counted_before_it_goes(running: RunningBridge) -> None:
    fill(running.storage, range(TEN_YEARS - 20, TEN_YEARS))
    before = months_of(running.storage)
    counted, tried = (body(running, "POST", f"retention?{query}dry_run=true") for query in ("", "months=24&"))
    assert (counted["dryRun"], counted["complete"], tried["dryRun"]) == (True, True, True)
    assert tried["before"] < counted["before"]
    assert months_of(running.storage) == before
    done = body(running, "POST", "retention")
    assert done == counted | {"dryRun": False}
    assert done["rows"]["calls"] > 0
    cut = done["before"][:7]
    assert months_of(running.storage) == {name: {one for one in has if one > cut} for name, has in before.items()}


def test_a_month_is_handed_over_and_then_dropped_alone(running: RunningBridge) -> None:
    fill(running.storage, range(40, 44))
    before = months_of(running.storage)
    lines, query = list[dict[str, Any]](), ""
    while query is not None:
        answer = running.ask("GET", f"/api/ops/months/{NAME}{query}", MASTER)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
        lines += [json.loads(line) for line in answer.content.splitlines()]
        follows = answer.headers.get("Continuation")
        query = f"?continuation={follows}" if follows else None
    assert [line["kind"] for line in lines] == ["event", "call"]
    assert [line.get("callID") or line["data"]["callID"] for line in lines] == [call_id(CHOSEN)] * 2
    counted = body(running, "DELETE", f"months/{NAME}?dry_run=true")
    assert months_of(running.storage) == before
    assert body(running, "DELETE", f"months/{NAME}")["rows"] == counted["rows"]
    assert months_of(running.storage) == {name: has - {NAME} for name, has in before.items()}


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        *(("POST", f"retention?{query}", "months") for query in ("months=24", "months=0&dry_run=true")),
        ("POST", "retention?mnths=24&dry_run=true", "mnths"),
        ("GET", "months/2026-13", "month"),
        ("DELETE", "months/2026", "month"),
        ("DELETE", "months/9998-01", "month"),
        *(("POST", f"retention?{query}", "dry_run") for query in ("dry_run=1", "dry_run=yes", "dry_run=")),
        *(("DELETE", f"months/{NAME}?{name}=true", name) for name in ("dryRun", "dry-run")),
    ],
)
def test_nothing_is_deleted_where_it_is_unclear_what_should_be(
    method: str, path: str, field: str, running: RunningBridge
) -> None:
    for key in ("", KEY):
        assert running.ask(method, f"/api/ops/{path}", key).status_code == 401
    answer = running.ask(method, f"/api/ops/{path}", MASTER)
    assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (422, [field])
    answer = running.ask("GET", f"/api/ops/months/{NAME}?continuation=mine", MASTER)
    assert (answer.status_code, answer.json()["title"]) == (400, "Invalid continuation token")
