"""Retention and months over HTTP: with the master key only, and without deletions on unclear requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.apps import KEY, MASTER, RunningApp, running_app
from tests.history import TEN_YEARS, fill, months_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(new_account(), tmp_path_factory.mktemp("history"), RETENTION_MONTHS="12") as running:
        fill(running.storage, range(TEN_YEARS - 20, TEN_YEARS))
        yield running


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        *(("POST", f"retention?{query}", "months") for query in ("months=24", "months=0&dry_run=true")),
        ("POST", "retention?mnths=24&dry_run=true", "mnths"),
        ("GET", "months/2026-13", "month"),
        *(("DELETE", f"months/{month}", "month") for month in ("2026", "9998-01")),
        *(("POST", f"retention?{query}", "dry_run") for query in ("dry_run=1", "dry_run=yes", "dry_run=")),
        *(("DELETE", f"months/2025-01?{name}=true", name) for name in ("dryRun", "dry-run")),
    ],
)
def test_unclear_requests_delete_nothing(method: str, path: str, field: str, running: RunningApp) -> None:
    for key in ("", KEY):
        assert running.ask(method, f"/api/ops/{path}", key).status_code == 401
    answer = running.ask(method, f"/api/ops/{path}", MASTER)
    assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (422, [field])


def test_deletions_are_counted_first_and_a_month_is_exported(running: RunningApp) -> None:
    before = months_of(running.storage)
    counted, tried = (
        running.ask("POST", f"/api/ops/retention?{query}dry_run=true", MASTER).json() for query in ("", "months=24&")
    )
    assert (counted["complete"], tried["before"] < counted["before"]) == (True, True)
    month = f"/api/ops/months/{tried['before'][:7]}"
    answer = running.ask("GET", month, MASTER)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert running.ask("GET", f"{month}?continuation=mine", MASTER).status_code == 400
    assert running.ask("DELETE", f"{month}?dry_run=true", MASTER).json()["dryRun"]
    assert months_of(running.storage) == before
    assert running.ask("POST", "/api/ops/retention", MASTER).json() == counted | {"dryRun": False}
    assert months_of(running.storage) != before
