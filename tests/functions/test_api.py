"""The API over HTTP: the PBX's answers and refusals as the reference lists them, stored lists, and the definition."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dev.stored import put
from shared.api.operations import ACTIONS, LISTS
from shared.pbx.operations import Operation, operation
from shared.pbx.resources import RESOURCES, Resource
from shared.values import LARGEST_ID
from tests.apps import KEY, RunningApp

pytestmark = pytest.mark.xdist_group("shared_face")


@pytest.fixture(scope="module")
def running(shared_face: RunningApp) -> RunningApp:
    for row in RESOURCES:
        shared_face.pbx.add(row.name, LARGEST_ID)
        store(shared_face, row, *(LARGEST_ID - number for number in range(60)))
    return shared_face


@pytest.fixture(autouse=True)
def _quiet(running: RunningApp) -> None:
    running.pbx.faults.clear()


def store(running: RunningApp, row: Resource, *ids: int) -> None:
    put(running.storage, row.name, *({"contactID": 1, row.id_field: number} for number in ids))


def ids(answer: Any, row: Resource) -> list[int]:
    return [item[row.id_field] for item in answer.json()["data"]]


def ask(running: RunningApp, row: Operation, item: Any = LARGEST_ID, **options: Any) -> Any:
    path = row.path.format(**{parameter.name: item for parameter in row.parameters if parameter.where == "path"})
    return running.ask(row.method, f"/api/v2/{path}", **options)


def dial(running: RunningApp, destination: str = "27771153", contact: Any = LARGEST_ID, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(running, operation("Dial"), json={"destination": destination, "contactID": contact}, headers=named)


@pytest.mark.parametrize("row", ACTIONS, ids=lambda row: row.id)
def test_every_action_needs_a_key_and_answers_in_the_pbx_s_envelope(row: Operation, running: RunningApp) -> None:
    for key in ("wrong", ""):
        assert ask(running, row, headers={"x-functions-key": key}).status_code == 401
    answer = dial(running) if row.command else ask(running, row)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    body = answer.json()
    assert (body["version"], body["status"], body["statusCode"], body["message"]) == ("v2", "success", 200, "OK")
    assert isinstance(body["data"], list if row.lists else dict)
    assert row.command or row.lists or str(LARGEST_ID) in answer.text


FAULTS: tuple[tuple[str, dict[str, Any], int, str], ...] = (
    ("forbidden", {"kind": "status", "status": 403}, 403, "Forbidden"),
    ("not found", {"kind": "status", "status": 404}, 404, "There are no items found based on the request"),
    ("refused", {"kind": "status", "status": 422}, 422, "Please check if the filter values are filled out correctly"),
    ("throttled", {"kind": "status", "status": 429, "retry_after": "1"}, 429, "rate limit"),
    ("not understood", {"kind": "html", "status": 200}, 502, "Invalid answer"),
)


@pytest.mark.parametrize("row", [operation("GetContactsByID"), operation("GetLostCalls")], ids=lambda row: row.id)
@pytest.mark.parametrize(("fault", "status", "words"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_answers_of_the_pbx_are_passed_on(
    row: Operation, fault: dict[str, Any], status: int, words: str, running: RunningApp
) -> None:
    running.pbx.faults.add(match=row.id, **fault)
    answer = ask(running, row)
    assert answer.status_code == status
    body = answer.json()
    assert body.keys() == {"version", "status", "statusCode", "message", "data"}
    assert (body["version"], body["status"], body["statusCode"], body["data"]) == ("v2", "error", status, None)
    assert words in body["message"]
    assert answer.headers.get("Retry-After") == ("1" if status == 429 else None)


def test_an_unreachable_pbx_is_503(running: RunningApp) -> None:
    running.pbx.faults.add("reset", "Dial", times=1)
    answer = dial(running, Idempotency_Key="away")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    again = dial(running, Idempotency_Key="away")
    assert again.status_code == 409
    assert "did not say whether this call rang" in again.json()["message"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"contacts/{LARGEST_ID + 1}", "contact_id"),
        ("contacts/1%2F2", "contact_id"),
        ("lost_calls?limit=0", "limit"),
        ("lost_calls?destination=anonymous", "destination"),
        ("trigger/call_history?source=", "source"),
        ("trigger/call_history?limit=1&sauce=1", "sauce"),
        ("calls?from=yesterday", "from"),
        ("events?type=CallParked", "type"),
    ],
)
def test_wrong_input_is_named_and_never_reaches_the_pbx(path: str, field: str, running: RunningApp) -> None:
    before = len(running.pbx.requests)
    answer = running.ask("GET", f"/api/v2/{path}")
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["path"] == field
    assert error["reason"] in answer.json()["message"]
    assert len(running.pbx.requests) == before


@pytest.mark.parametrize("headers", [{"Idempotency_Key": "once"}, {"x_ms_workflow_run_id": "08586734240477CU46"}])
def test_many_requests_at_once_for_one_call_ring_once(headers: dict[str, str], running: RunningApp) -> None:
    before = running.rings()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: dial(running, "27771199", **headers), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert running.rings() == before + 1


def test_an_employee_may_be_a_text_and_a_number_have_marks_and_none_is_repeated(running: RunningApp) -> None:
    before = running.rings()
    answer = dial(running, "\u202a+371\u00a027771188\u202c", str(LARGEST_ID), Idempotency_Key="text")
    assert (answer.status_code, running.rings()) == (200, before + 1)
    running.pbx.faults.add("status", "Dial", status=422, times=1)
    answer = dial(running, "27770000", 5)
    assert answer.status_code == 422
    assert "27770000" not in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_a_list_answers_from_storage_while_the_pbx_is_down(row: Resource, running: RunningApp) -> None:
    running.pbx.faults.add("reset")
    before = len(running.pbx.requests)
    path = f"/api/v2/trigger/{row.name}"
    answer = running.ask("GET", f"{path}?{row.cursor_parameter}=0")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert ids(answer, row) == [LARGEST_ID - number for number in range(50)]
    newer = running.ask("GET", f"{path}?{row.cursor_parameter}={LARGEST_ID - 2}&limit=5")
    assert ids(newer, row) == [LARGEST_ID, LARGEST_ID - 1]
    assert len(running.pbx.requests) == before
    assert running.ask("GET", path, headers={"x-functions-key": "wrong"}).status_code == 401


@pytest.mark.slow
@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_a_poll_follows_its_location_until_there_is_nothing_new(row: Resource, running: RunningApp) -> None:
    # The host keeps a parameter without a value from the app.
    answer = running.ask("GET", f"/api/v2/trigger/{row.name}?triggerState=&limit=10&code={KEY}")
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


def test_the_definition_is_open_to_everybody_and_fetched_once(running: RunningApp) -> None:
    answer = running.ask("GET", "/api/swagger.json", headers={"x-functions-key": ""})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    definition = answer.json()
    assert f"{definition['schemes'][0]}://{definition['host']}" == running.url
    assert {row.path for row in LISTS} <= {path[1:] for path in definition["paths"]}
    assert not any(secret in answer.text for secret in (KEY, running.pbx.api_key, running.pbx.base_url))
    again = running.ask("GET", "/api/swagger.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_answers_name_the_host_and_scheme_that_the_caller_used(running: RunningApp) -> None:
    headers = {"Host": "func-pbx.azurewebsites.net", "X-Forwarded-Proto": "https"}
    definition = running.ask("GET", "/api/swagger.json", headers=headers).json()
    assert (definition["schemes"], definition["host"]) == (["https"], "func-pbx.azurewebsites.net")
    answer = running.ask("GET", "/api/v2/trigger/groups?triggerState=", headers=headers)
    assert answer.headers["Location"].startswith("https://func-pbx.azurewebsites.net/api/v2/trigger/groups?")
