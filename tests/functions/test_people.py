"""A person's data over HTTP with the master key: jobs of export and erasure, and the zip of an export."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.apps import RunningApp, running_app
from tests.waiting import until

NUMBER = "27771153"
BASE = "https://calls.example"
MASTER = {"x-functions-key": "master-key"}
NAMES = (
    "OnCallCompleted",
    "ProcessEvent",
    "ServePerson",
    "ExportPerson",
    "ErasePerson",
    "GetPersonJob",
    "GetPersonFile",
)


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(new_account(), tmp_path_factory.mktemp("people"), *NAMES, PUBLIC_BASE_URL=BASE) as running:
        yield running


def job(running: RunningApp, kind: str) -> dict[str, Any]:
    asked = running.ask("POST", f"/api/ops/people/{kind}", json={"number": f"+371 {NUMBER}"}, headers=MASTER)
    assert asked.status_code == 202
    where = asked.headers["Location"].removeprefix(BASE)
    assert where.startswith("/api/ops/people/")
    assert NUMBER not in where

    def answer() -> dict[str, Any]:
        found: dict[str, Any] = running.ask("GET", where, headers=MASTER).json()
        assert found["state"] in ("queued", "running", "done")
        return found if found["state"] == "done" else {}

    return until(answer, seconds=60)


def test_a_number_is_exported_and_then_erased(running: RunningApp) -> None:
    started = {"callID": 1524664459097344, "caller": NUMBER, "callStarted": "2018-04-25T13:54:19+0000"}
    event = {"type": "Event", "eventType": "CallCompleted", "version": "v1", "data": started}
    assert running.ask("POST", "/api/events/CallCompleted", json=event, headers=MASTER).status_code == 202
    until(lambda: list(running.storage.table("calls").list_entities()), seconds=30)
    exported = job(running, "export")
    assert exported["counts"]["calls"] == 1
    file = running.ask("GET", exported["file"].removeprefix(BASE), headers=MASTER)
    assert file.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        (call,) = json.loads(archive.read("calls.json"))
    assert call["caller"] == NUMBER
    erased = job(running, "erase")
    assert (erased["counts"]["calls"], erased["counts"]["exports"]) == (1, 1)
    assert NUMBER not in json.dumps(erased)
    assert running.ask("GET", exported["file"].removeprefix(BASE), headers=MASTER).status_code == 404


def test_a_persons_data_needs_the_master_key(running: RunningApp) -> None:
    for path in ("export", "erase"):
        assert running.ask("POST", f"/api/ops/people/{path}", json={"number": NUMBER}).status_code == 401
    assert running.ask("GET", "/api/ops/people/erase-0").status_code == 401


def test_an_unknown_job_and_a_wrong_body_are_refused(running: RunningApp) -> None:
    assert running.ask("GET", "/api/ops/people/erase-0", headers=MASTER).status_code == 404
    assert running.ask("POST", "/api/ops/people/erase", json={"numbr": NUMBER}, headers=MASTER).status_code == 422
