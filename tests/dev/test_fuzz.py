"""Fuzzing: the app answers any request as its definition documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dev.fuzz import run
from dev.stored import put
from shared.events.table import EVENTS
from shared.pbx.resources import RESOURCES
from tests.apps import KEY, RunningApp, running_app

pytestmark = pytest.mark.xdist_group("fuzz")


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(new_account(), tmp_path_factory.mktemp("fuzz")) as running:
        for row in RESOURCES:
            running.pbx.add(row.name, 1)
            put(running.storage, row.name, {row.id_field: 1})
        yield running


@pytest.mark.slow
def test_any_request_gets_a_documented_answer(running: RunningApp) -> None:
    # All events have the same code, so a few are enough; python -m dev.fuzz checks all.
    others = [event.name for event in EVENTS if event.name not in ("CallStarted", "ContactCreated")]
    code, cases, report = run(running.url, KEY, "--phases", "coverage", processes=2, without=others)
    assert code == 0, report
    assert cases >= 300


@pytest.mark.slow
def test_every_operation_of_the_definition_is_served(running: RunningApp) -> None:
    definition = running.ask("GET", "/api/swagger.json").json()
    for path, methods in definition["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, dict) and "operationId" in operation:
                sent = path.replace("{", "").replace("}", "")
                answer = running.ask(method, definition["basePath"] + sent, data=b"{}")
                assert answer.status_code != 404 or "message" in answer.json(), operation["operationId"]
