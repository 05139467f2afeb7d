"""An error is an error wherever an answer says so, and an unknown word beside good data is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.simulator import Simulator
from shared.errors import (
    PbxError,
    PbxForbidden,
    PbxNoItem,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxUnavailable,
)
from shared.pbx.failures import failure_code
from shared.pbx.operations import operation
from shared.pbx.responses import parse
from tests.polls import bridge_to

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.settings import Settings


def separate(words: str) -> list[str]:
    return words.split("|")


FAILED: list[tuple[dict[str, Any], type[PbxError]]] = [
    ({"status": "error", "statusCode": 200}, PbxRefused),
    ({"status": "ERROR"}, PbxRefused),
    ({"status": " Error "}, PbxRefused),
    ({"status": "fail"}, PbxRefused),
    ({"status": "Failure"}, PbxRefused),
    ({"status": "FAILED", "message": None}, PbxRefused),
    ({"status": "not ok"}, PbxRefused),
    ({"status": "unsuccessful"}, PbxRefused),
    ({"status": "kļūda"}, PbxRefused),
    ({"status": False}, PbxRefused),
    ({"status": -1}, PbxRefused),
    ({"status": "Not Found"}, PbxNotFound),
    ({"status": "forbidden"}, PbxForbidden),
    ({"status": "internal_server_error"}, PbxUnavailable),
    ({"status": 403}, PbxForbidden),
    ({"statusCode": "500"}, PbxUnavailable),
    ({"statusCode": 500.0}, PbxUnavailable),
    ({"statusCode": "403"}, PbxForbidden),
    ({"statusCode": "500 Internal Server Error"}, PbxUnavailable),
    ({"statusCode": "error"}, PbxRefused),
    ({"statusCode": -1}, PbxRefused),
    ({"statusCode": 1001}, PbxRefused),
    ({"success": False}, PbxRefused),
    ({"success": "false"}, PbxRefused),
    ({"ok": 0}, PbxRefused),
    ({"error": "Employee is busy"}, PbxRefused),
    ({"error": True}, PbxRefused),
    ({"error": {"code": 404, "message": "gone"}}, PbxNotFound),
    ({"errors": [{"code": 17, "message": "Employee is busy"}]}, PbxRefused),
    ({"errors": {"destination": ["is wrong"]}}, PbxRefused),
    ({"status": ["error"]}, PbxRefused),
    ({"status": ["ok", {"text": "server error"}]}, PbxRefused),
    ({"status": {"code": 500}}, PbxUnavailable),
    ({"status": {"error": "busy"}}, PbxRefused),
    ({"statusCode": "E500"}, PbxUnavailable),
    ({"statusCode": "HTTP/1.1 503 Service Unavailable"}, PbxUnavailable),
    ({"statusCode": "E17"}, PbxRefused),
    ({"status": "success", "code": 500}, PbxUnavailable),
    ({"status": "success", "httpStatus": "403"}, PbxForbidden),
    ({"errorMessage": "busy"}, PbxRefused),
    ({"error_description": "busy"}, PbxRefused),
    ({"errorCode": 5}, PbxRefused),
    ({"errno": "5"}, PbxRefused),
    ({"errorCode": 503, "errorMessage": "later"}, PbxUnavailable),
    ({"errorCode": 0, "errorMessage": "server error"}, PbxRefused),
    ({"faultstring": "x"}, PbxRefused),
]
# Words that say somewhere that something failed, in any spelling and several languages.
FAILURES = separate(
    "server error|api error|system_error|validation error|unknown error|Internal Server Error!|serverError|SERVERERROR"
    "|request failed|general failure|permission denied|call rejected by employee|connection timed out|not allowed"
    "|notAuthorised|user not found|unauthenticated|unreachable|could not connect|couldn't dial|did not succeed"
    "|no answer|no such employee|3 errors|service down|database gone|employee busy|line busy|busy here"
    "|maintenance|under maintenance"
    "|token expired|quota exceeded|too many calls|unable to dial|unknown method|java.lang.NullPointerException|declined"
    "|error: no such item|completed with 3 errors|Servera kļūda|Nav atļauts|Sistemos klaida|süsteemi viga|Serverfehler"
    "|системная ошибка|доступ запрещён"
)
# Words for success, also those in which a word for failure stands.
SUCCESSES = separate(
    "OK|done|created|queued|ringing|default|partial|empty|no data|found|valid|Veiksmīgi|Izpildīts|Nav izmaiņu|Sėkmingai"
    "|Õnnestus|Edukas|Успешно|Выполнено|no errors|NoError|no_error|without any errors|error-free|0 errors|errors: 0"
    "|not failed|no internal errors|no problems|completed without errors|bez kļūdām|kļūdu nav|be klaidų|klaidų nėra"
    "|vigu ei ole|без ошибок|ошибок нет|ohne Fehler|webhook disabled|subscription cancelled|not modified"
    "|E2E test passed|200 OK|Zvans 500|S0000|acknowledged|unlocked|errorfree"
)
WELL: list[dict[str, Any]] = [
    {"status": word}
    for word in ("success", "OK", "done", "Zvans sākts", "accepted", "no errors", "errorless", "nominal", "warning")
] + [
    {"status": 1},
    {"status": 200},
    {"status": "200"},
    {"status": True},
    {"status": None},
    {"status": ""},
    {"statusCode": "200"},
    {"statusCode": 201},
    {"statusCode": None},
    {"success": True},
    {"errors": []},
    {"errors": {}},
    {"error": None},
    {"error": ""},
    {"error": False},
    {"error": "none"},
    {"error": {"code": 0, "message": ""}},
    {"error": "no errors found"},
    {"errorCode": 0, "errorMessage": "Veiksmīgi"},
    {"errorCode": "0000", "errorMessage": "Success"},
    {"errorCode": 200, "errorMessage": "OK"},
    {"errorMessage": None, "errno": 0},
    {"errorCount": 3},
    {"code": 1000},
    {"code": 0},
    {"status": []},
]
OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    ("GetContacts", {}),
    ("GetContactsByID", {"contact_id": 1}),
    ("GetLostCalls", {}),
    ("Dial", {"destination": "27771153", "contactID": 1}),
    ("Subscribe", {"event": "CallStarted", "endpoint": "http://127.0.0.1:9/x"}),
    ("DeleteWebhookByID", {"webhook_id": "1"}),
]
GOOD: dict[str, Any] = {"GetContacts": [{"contactID": 1}], "GetContactsByID": {"contactID": 1}, "GetLostCalls": []}


@pytest.fixture(scope="module")
def simulator() -> Any:
    with Simulator("test-key") as simulator:
        yield simulator


@pytest.fixture
def bridge(simulator: Simulator, settings: Settings) -> Bridge:
    simulator.reset()
    return bridge_to(simulator, settings)


@pytest.mark.parametrize(("operation", "values"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_what_says_that_it_failed_did(
    operation: str, values: dict[str, Any], simulator: Simulator, bridge: Bridge
) -> None:
    for wrapper, error in FAILED:
        simulator.faults.clear()
        simulator.faults.add("wrapper", value={"data": GOOD.get(operation, {}), **wrapper})
        with pytest.raises(error):
            bridge.pbx.envelope(operation, lane="poll", **values)


@pytest.mark.parametrize(("operation", "values"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_an_unknown_word_with_good_data_passes(
    operation: str, values: dict[str, Any], simulator: Simulator, bridge: Bridge
) -> None:
    for wrapper in WELL:
        simulator.faults.clear()
        simulator.faults.add("wrapper", value={"data": GOOD.get(operation, {}), **wrapper})
        assert bridge.pbx.call(operation, lane="poll", **values) == GOOD.get(operation, {})


@pytest.mark.parametrize("word", FAILURES)
def test_a_word_of_failure_fails_wherever_it_stands(word: str) -> None:
    for data in ([], [{"contactID": 1}], {"contactID": 1}, None):
        for name in ("status", "statusCode", "result"):
            assert failure_code({"statusCode": 200, "data": data} | {name: word})
    assert failure_code({"data": {"status": word}}["data"], inner=True)
    assert failure_code({"success": word})


@pytest.mark.parametrize("word", SUCCESSES)
def test_a_word_of_success_passes_in_any_language(word: str) -> None:
    for data in ([], [{"contactID": 1}], {"contactID": 1}, None):
        assert failure_code({"status": word, "statusCode": 200, "data": data}) is None
    assert failure_code({"status": word}, inner=True) is None


WORDS = st.sampled_from([*FAILURES[:2], "request failed", "permission denied", "timeout", "rejected"])
# No letters of which a word for without could be made, such as `be`.
AROUND = st.text("acdfgh ", max_size=8)


@given(AROUND, WORDS, AROUND)
def test_anything_may_stand_around_a_word_of_failure(before: str, word: str, after: str) -> None:
    assert failure_code({"status": f"{before} {word} {after}", "statusCode": 200, "data": [{"contactID": 1}]})


@given(
    st.sampled_from(["no", "No", "without", "without any", "0", "zero", "bez", "без"]),
    st.sampled_from(["error", "errors", "failures"]),
    AROUND,
)
def test_a_negated_word_of_failure_is_none(none: str, word: str, after: str) -> None:
    assert failure_code({"status": f"OK, {none} {word} {after}"}) is None


@pytest.mark.parametrize("status", [0, "0", 0.0, {"code": 200, "text": "OK"}, ["OK"]], ids=str)
def test_an_odd_status_passes_beside_a_success_with_good_data_only(status: Any) -> None:
    wrapper = {"status": status, "statusCode": 200}
    assert failure_code({**wrapper, "data": [{"contactID": 1}]}) is None
    assert failure_code({**wrapper, "data": {"contactID": 1}}) is None
    assert failure_code({**wrapper, "data": {}}) == failure_code({**wrapper}) == 422
    if not isinstance(status, list | dict):
        assert failure_code({"status": status, "data": [{"contactID": 1}]}) == 422


@pytest.mark.parametrize("data", [False, "none", 5, [[1]], {"contactID": 1}, True], ids=repr)
def test_a_list_of_the_wrong_kind_is_none(data: Any, simulator: Simulator, bridge: Bridge) -> None:
    simulator.faults.add("wrapper", value={"data": data})
    with pytest.raises(PbxNotUnderstood):
        bridge.pbx.call("GetContacts", lane="poll")


@pytest.mark.parametrize("data", [False, "none", 5, [{"contactID": 1}], {"detail": "?"}], ids=repr)
def test_an_item_of_the_wrong_kind_is_none(data: Any, simulator: Simulator, bridge: Bridge) -> None:
    simulator.faults.add("wrapper", value={"data": data})
    with pytest.raises(PbxNotUnderstood):
        bridge.pbx.call("GetContactsByID", lane="poll", contact_id=1)


@pytest.mark.parametrize(
    "data", [False, "error", {"status": "error"}, {"success": False}, {"error": "Employee is busy"}], ids=repr
)
def test_a_command_whose_data_says_no_failed(data: Any, simulator: Simulator, bridge: Bridge) -> None:
    simulator.faults.add("wrapper", value={"data": data})
    with pytest.raises(PbxRefused):
        bridge.pbx.call("Dial", lane="action", destination="27771153", contactID=1)


def test_a_list_written_as_an_object_is_read_in_its_order(simulator: Simulator, bridge: Bridge) -> None:
    data = {str(place): {"contactID": place} for place in (10, 2, 0)}
    simulator.faults.add("wrapper", value={"data": data})
    assert [item["contactID"] for item in bridge.pbx.call("GetContacts", lane="poll")] == [0, 2, 10]


def test_words_alone_are_no_answer(bridge: Bridge, simulator: Simulator) -> None:
    for name, values in OPERATIONS:
        simulator.faults.clear()
        simulator.faults.add(
            "wrapper", value={"message": "Employee is busy"} | dict.fromkeys(("status", "statusCode", "data"))
        )
        with pytest.raises(PbxNotUnderstood):
            bridge.pbx.envelope(name, lane="poll", **values)


def test_the_reason_is_passed_on_without_numbers(bridge: Bridge, simulator: Simulator) -> None:
    simulator.faults.add("wrapper", value={"status": "error", "message": "", "errors": [{"message": "27771153 busy"}]})
    with pytest.raises(PbxRefused) as caught:
        bridge.pbx.call("Dial", lane="action", destination="27771153", contactID=1)
    assert caught.value.remedy == "… busy"


def test_a_call_that_was_started_may_have_any_status_in_its_data(bridge: Bridge, simulator: Simulator) -> None:
    simulator.faults.add("wrapper", value={"data": {"callID": 5, "status": 0}})
    assert bridge.pbx.call("Dial", lane="action", destination="27771153", contactID=1) == {"callID": 5, "status": 0}


@pytest.mark.parametrize("answer", [{"data": None}, {"data": {}}, {"data": []}, {"status": "Not Found"}], ids=str)
def test_a_success_without_an_item_is_not_found_and_proves_nothing(
    answer: dict[str, Any], bridge: Bridge, simulator: Simulator
) -> None:
    simulator.faults.add("wrapper", value=answer)
    with pytest.raises(PbxNoItem) as caught:
        bridge.pbx.call("GetContactsByID", lane="poll", contact_id=1)
    assert isinstance(caught.value, PbxNotFound)


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 404}, {"kind": "body-status", "status": 404}], ids=str)
def test_a_404_says_that_there_is_no_item(fault: dict[str, Any], bridge: Bridge, simulator: Simulator) -> None:
    simulator.faults.add(**fault)
    with pytest.raises(PbxNotFound) as caught:
        bridge.pbx.call("GetContactsByID", lane="poll", contact_id=1)
    assert not isinstance(caught.value, PbxNoItem)


@pytest.mark.parametrize("body", [b"404 page not found", b"<html>", b"default backend - 404", b'"gone"'], ids=str)
def test_a_404_of_somebody_in_between_is_none_of_the_pbx(body: bytes) -> None:
    for row in (operation("GetContacts"), operation("GetContactsByID")):
        with pytest.raises(PbxNotUnderstood):
            parse(row, 404, {}, body)
        for own in (b"", b"{}", b"[]", b'{"statusCode":404}'):
            with pytest.raises(PbxNotFound):
                parse(row, 404, {}, own)


NAMES = st.sampled_from(["status", "statusCode", "errors", "success", "data"]) | st.text()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(VALUES)
def test_any_wrapper_is_judged(value: Any) -> None:
    for inner in (False, True):
        code = failure_code(value, inner=inner)
        assert code is None or code >= 300
