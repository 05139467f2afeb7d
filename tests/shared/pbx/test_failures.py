"""An error is an error wherever an answer says so, and an unknown word beside good data is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.simulator import Simulator
from shared.errors import PbxError, PbxForbidden, PbxNotFound, PbxNotUnderstood, PbxRefused, PbxUnavailable
from shared.pbx.failures import failure_code
from tests.polls import bridge_to

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.settings import Settings

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
    ({"status": 0}, PbxRefused),
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
]
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
    for operation, values in OPERATIONS:
        simulator.faults.clear()
        simulator.faults.add(
            "wrapper", value={"message": "Employee is busy"} | dict.fromkeys(("status", "statusCode", "data"))
        )
        with pytest.raises(PbxNotUnderstood):
            bridge.pbx.envelope(operation, lane="poll", **values)


def test_the_reason_is_passed_on_without_numbers(bridge: Bridge, simulator: Simulator) -> None:
    simulator.faults.add("wrapper", value={"status": "error", "message": "", "errors": [{"message": "27771153 busy"}]})
    with pytest.raises(PbxRefused) as caught:
        bridge.pbx.call("Dial", lane="action", destination="27771153", contactID=1)
    assert caught.value.remedy == "… busy"


def test_a_call_that_was_started_may_have_any_status_in_its_data(bridge: Bridge, simulator: Simulator) -> None:
    simulator.faults.add("wrapper", value={"data": {"callID": 5, "status": 0}})
    assert bridge.pbx.call("Dial", lane="action", destination="27771153", contactID=1) == {"callID": 5, "status": 0}


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
