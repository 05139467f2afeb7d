"""The lists over HTTP, with the PBX up and with the PBX down."""

from __future__ import annotations

from typing import Any

import pytest

from dev.stored import put
from shared.identifiers import LARGEST_ID
from shared.pbx.resources import RESOURCES, Resource
from tests.face import KEY, Face

pytestmark = pytest.mark.xdist_group("shared_face")


@pytest.fixture(scope="module")
def running(shared_face: Face) -> Face:
    for row in RESOURCES:
        store(shared_face, row, *(LARGEST_ID - number for number in range(60)))
    return shared_face


def store(running: Face, row: Resource, *ids: int) -> None:
    put(running.storage, row.name, *({"contactID": 1, row.id_field: number} for number in ids))


def ids(answer: Any, row: Resource) -> list[int]:
    return [item[row.id_field] for item in answer.json()["data"]]


@pytest.mark.slow
@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_a_list_answers_from_storage_while_the_pbx_is_down(row: Resource, running: Face) -> None:
    running.pbx.faults.add("reset")
    before = len(running.pbx.requests)
    answer = running.ask("GET", f"/api/v2/trigger/{row.name}?{row.cursor_parameter}=0")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert ids(answer, row) == [LARGEST_ID - number for number in range(50)]
    newer = running.ask("GET", f"/api/v2/trigger/{row.name}?{row.cursor_parameter}={LARGEST_ID - 2}&limit=5")
    assert ids(newer, row) == [LARGEST_ID, LARGEST_ID - 1]
    assert len(running.pbx.requests) == before


@pytest.mark.slow
@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_a_list_wants_a_key_and_sound_values(row: Resource, running: Face) -> None:
    path = f"/api/v2/trigger/{row.name}"
    assert running.ask("GET", path, headers={"x-functions-key": "wrong"}).status_code == 401
    refused = running.ask("GET", f"{path}?limit=0&{row.cursor_parameter}=x")
    assert refused.status_code == 422
    assert {error["path"] for error in refused.json()["errors"]} == {"limit", row.cursor_parameter}


def test_a_value_that_is_empty_is_no_value_that_is_missing(running: Face) -> None:
    path = "/api/v2/trigger/call_history"
    begun = running.ask("GET", f"{path}?triggerState=")
    assert (begun.status_code, "Location" in begun.headers) == (202, True)
    refused = running.ask("GET", f"{path}?source=")
    assert [error["path"] for error in refused.json()["errors"]] == ["source"]


@pytest.mark.slow
@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_a_poll_follows_its_location_until_there_is_nothing_new(row: Resource, running: Face) -> None:
    answer = running.ask("GET", f"/api/v2/trigger/{row.name}?triggerState=now&limit=10&code={KEY}")
    assert answer.status_code == 202
    assert answer.headers["Location"].startswith(f"{running.url}/api/v2/trigger/{row.name}?")
    assert KEY not in answer.headers["Location"]
    store(running, row, 7, 5)
    store(running, row, 3)
    listed = []
    for expected in (200, 200, 200, 202, 202):
        answer = running.ask("GET", answer.headers["Location"].removeprefix(running.url))
        assert (answer.status_code, answer.headers["Retry-After"] == "0") == (expected, expected == 200)
        listed += ids(answer, row)
    assert sorted(listed) == [3, 5, 7]
    assert listed[-1] == 3


def test_the_location_has_the_scheme_that_the_caller_used(running: Face) -> None:
    answer = running.ask("GET", "/api/v2/trigger/groups?triggerState=", headers={"X-Forwarded-Proto": "https"})
    assert answer.headers["Location"].startswith("https://127.0.0.1")
