"""The actions over HTTP: the PBX's answers and refusals as the reference lists them, and never a 500."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from shared.api.operations import ACTIONS
from shared.identifiers import LARGEST_ID
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES, Resource

if TYPE_CHECKING:
    from shared.pbx.operations import Operation
    from tests.face import Face


pytestmark = pytest.mark.xdist_group("shared_face")


@pytest.fixture(scope="module")
def running(shared_face: Face) -> Face:
    for row in RESOURCES:
        shared_face.pbx.add(row.name, LARGEST_ID)
    return shared_face


@pytest.fixture(autouse=True)
def _quiet(running: Face) -> None:
    running.pbx.faults.clear()


def ask(running: Face, row: Operation, item: Any = LARGEST_ID, **options: Any) -> Any:
    path = row.path.format(**{parameter.name: item for parameter in row.parameters if parameter.where == "path"})
    if row.id == "Dial":
        options = {"json": {"destination": "+37127771153", "contactID": LARGEST_ID}} | options
    return running.ask(row.method, f"/api/v2/{path}", **options)


@pytest.mark.parametrize("row", ACTIONS, ids=lambda row: row.id)
def test_every_action_answers_in_the_pbx_s_envelope(row: Operation, running: Face) -> None:
    answer = ask(running, row)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    body = answer.json()
    assert (body["version"], body["status"], body["statusCode"], body["message"]) == ("v2", "success", 200, "OK")
    assert isinstance(body["data"], list if row.lists else dict)


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_an_id_of_63_bits_comes_back_exact(row: Resource, running: Face) -> None:
    answer = ask(running, operation(row.read_operation))
    assert f'"{row.id_field}":{LARGEST_ID}' in answer.text


@pytest.mark.parametrize("row", ACTIONS, ids=lambda row: row.id)
def test_no_action_works_without_a_key(row: Operation, running: Face) -> None:
    assert ask(running, row, headers={"x-functions-key": "wrong"}).status_code == 401
    assert ask(running, row, headers={"x-functions-key": ""}).status_code == 401


FAULTS: tuple[tuple[str, dict[str, Any], int, str], ...] = (
    ("forbidden", {"kind": "status", "status": 403}, 403, "Forbidden"),
    ("not found", {"kind": "status", "status": 404}, 404, "There are no items found based on the request"),
    ("refused", {"kind": "status", "status": 422}, 422, "Please check if the filter values are filled out correctly"),
    ("throttled", {"kind": "status", "status": 429, "retry_after": "1"}, 429, "rate limit"),
    ("not understood", {"kind": "html", "status": 200}, 502, "Invalid answer"),
)


@pytest.mark.parametrize("row", [operation("GetContactsByID"), operation("GetLostCalls")], ids=lambda row: row.id)
@pytest.mark.parametrize(("fault", "status", "words"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_what_the_pbx_says_is_passed_on(
    row: Operation, fault: dict[str, Any], status: int, words: str, running: Face
) -> None:
    running.pbx.faults.add(match=row.id, **fault)
    answer = ask(running, row)
    assert answer.status_code == status
    body = answer.json()
    assert body.keys() == {"version", "status", "statusCode", "message", "data"}
    assert (body["version"], body["status"], body["statusCode"], body["data"]) == ("v2", "error", status, None)
    assert words in body["message"]
    assert answer.headers.get("Retry-After") == ("1" if status == 429 else None)


def test_a_pbx_that_is_away_is_unavailable(running: Face) -> None:
    running.pbx.faults.add("reset", "Dial", times=1)
    answer = ask(running, operation("Dial"), headers={"Idempotency-Key": "away"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    again = ask(running, operation("Dial"), headers={"Idempotency-Key": "away"})
    assert again.status_code == 409
    assert "did not say whether this call rang" in again.json()["message"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("contacts/0", "contact_id"),
        ("contacts/-1", "contact_id"),
        (f"contacts/{LARGEST_ID + 1}", "contact_id"),
        ("contacts/abc", "contact_id"),
        ("contacts/1%2F2", "contact_id"),
        ("lost_calls?limit=0", "limit"),
        ("lost_calls?limit=1001", "limit"),
        ("lost_calls?offset=-1", "offset"),
        ("lost_calls?destination=anonymous", "destination"),
        ("lost_calls?date_from=yesterday", "date_from"),
    ],
)
def test_wrong_input_is_named_and_never_reaches_the_pbx(path: str, field: str, running: Face) -> None:
    before = len(running.pbx.requests)
    answer = running.ask("GET", f"/api/v2/{path}")
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["path"] == field
    assert error["reason"] in answer.json()["message"]
    assert len(running.pbx.requests) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 422), (b"{}", 422), (b'{"destination": "1"}', 422), (b"x" * 70_000, 413)],
    ids=lambda value: str(value)[:24],
)
def test_a_body_that_does_not_fit_is_refused(body: bytes, status: int, running: Face) -> None:
    answer = running.ask("POST", "/api/v2/dial", data=body)
    assert (answer.status_code, answer.json()["statusCode"]) == (status, status)


@pytest.mark.parametrize("headers", [{"Idempotency-Key": "once"}, {"x-ms-workflow-run-id": "08586734240477CU46"}])
def test_many_requests_at_once_for_one_call_ring_once(headers: dict[str, str], running: Face) -> None:
    before = running.rings()
    body = {"destination": "27771199", "contactID": LARGEST_ID}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: running.ask("POST", "/api/v2/dial", json=body, headers=headers), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert running.rings() == before + 1


@pytest.mark.parametrize(
    ("number", "words"), [("+37190000000", "premium-rate"), ("0037190000000", "premium-rate"), ("112", "emergency")]
)
def test_a_number_that_is_not_dialled_is_refused_with_the_reason(number: str, words: str, running: Face) -> None:
    before = len(running.pbx.requests)
    answer = ask(running, operation("Dial"), json={"destination": number, "contactID": LARGEST_ID})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "destination")
    assert words in answer.json()["message"]
    assert len(running.pbx.requests) == before


def test_an_employee_may_be_a_text_and_a_number_have_marks(running: Face) -> None:
    before = running.rings()
    body = {"destination": "\u202a+371\u00a027771188\u202c", "contactID": str(LARGEST_ID)}
    answer = running.ask("POST", "/api/v2/dial", json=body, headers={"Idempotency-Key": "text"})
    assert (answer.status_code, running.rings()) == (200, before + 1)


def test_no_number_reaches_the_log_or_a_refusal(running: Face) -> None:
    running.pbx.faults.add("status", "Dial", status=422, times=1)
    answer = ask(running, operation("Dial"), json={"destination": "27770000", "contactID": 5})
    assert answer.status_code == 422
    assert "27770000" not in json.dumps(answer.json())
