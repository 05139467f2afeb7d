"""Actions carry the PBX's answers unchanged and ask it nothing that cannot succeed."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from shared.api.actions import act
from shared.api.envelopes import passed_on
from shared.api.operations import ACTIONS
from shared.api.parameters import Request
from shared.errors import Invalid, PbxForbidden, PbxNotFound, PbxNotUnderstood, PbxRefused, PbxUnavailable
from shared.identifiers import LARGEST_ID
from shared.pbx.budget import Budget
from shared.pbx.client import Pbx
from shared.pbx.operations import Operation, operation
from shared.pbx.resources import RESOURCES, Resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.simulator import Simulator
    from shared.bridge import Bridge
    from shared.settings import Settings
    from shared.storage.account import Storage

READS = [row for row in ACTIONS if row.path.endswith("_id}")]


@pytest.fixture
def bridge(pbx: Simulator, settings: Settings, storage: Storage, start_bridge: Callable[..., Bridge]) -> Bridge:
    budget = Budget(storage, uuid.uuid4().hex, limit=100_000)
    return start_bridge(
        Pbx(replace(settings, pbx_base_url=pbx.base_url, pbx_api_key=pbx.api_key), budget, pause=lambda seconds: None)
    )


def run(bridge: Bridge, row: Operation, item_id: int = 1) -> dict[str, Any]:
    path = {parameter.name: str(item_id) for parameter in row.parameters if parameter.where == "path"}
    body = b'{"destination": "27771153", "contactID": 1}' if row.method == "POST" else b""
    return act(bridge, row, Request(path=path, body=body))


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_an_item_comes_as_the_pbx_has_it_with_exact_ids(row: Resource, bridge: Bridge, pbx: Simulator) -> None:
    pbx.options.extra_fields = True
    pbx.add(row.name, LARGEST_ID)
    envelope = run(bridge, operation(row.read_operation), LARGEST_ID)
    assert (envelope["version"], envelope["status"], envelope["statusCode"]) == ("v2", "success", 200)
    assert envelope["data"][row.id_field] == LARGEST_ID
    assert envelope["data"]["queueName"] == "Pārdošana"
    assert {field.name for field in operation(row.read_operation).item} <= envelope["data"].keys()


@pytest.mark.parametrize("row", READS, ids=lambda row: row.id)
def test_an_item_that_is_not_there_is_not_found(row: Operation, bridge: Bridge) -> None:
    with pytest.raises(PbxNotFound):
        run(bridge, row, 12345)


@pytest.mark.parametrize("row", READS, ids=lambda row: row.id)
def test_wrong_input_never_reaches_the_pbx(row: Operation, bridge: Bridge, pbx: Simulator) -> None:
    with pytest.raises(Invalid):
        run(bridge, row, 0)
    assert not pbx.requests


@pytest.mark.parametrize("row", [ACTIONS[0], operation("Dial")], ids=lambda row: row.id)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "status", "status": 403}, PbxForbidden),
        ({"kind": "status", "status": 404}, PbxNotFound),
        ({"kind": "status", "status": 422}, PbxRefused),
        ({"kind": "status", "status": 500}, PbxUnavailable),
        ({"kind": "body-status", "status": 422}, PbxRefused),
        ({"kind": "html", "status": 200}, PbxNotUnderstood),
        ({"kind": "reset"}, PbxUnavailable),
    ],
    ids=lambda value: "-".join(str(part) for part in value.values()) if isinstance(value, dict) else value.__name__,
)
def test_a_failure_of_the_pbx_is_known_by_its_type(
    row: Operation, fault: dict[str, Any], error: type[Exception], bridge: Bridge, pbx: Simulator
) -> None:
    pbx.faults.add(match=row.id, **fault)
    with pytest.raises(error):
        run(bridge, row)


def test_lost_calls_pass_their_filters_on(bridge: Bridge, pbx: Simulator) -> None:
    query = {"destination": "+371 27771153", "date_from": "2018-04-25T16:54:19+0300", "limit": "5", "offset": "2"}
    act(bridge, operation("GetLostCalls"), Request(query=query))
    (seen,) = pbx.requests
    assert "destination=%2B37127771153" in seen.query
    assert "limit=5&offset=2" in seen.query
    assert "date_from=2018-04-25T13%3A54%3A19Z" in seen.query


def test_what_the_pbx_left_out_of_its_wrapping_is_filled_in() -> None:
    passed = passed_on(operation("Dial"), {"message": None, "statusCode": "200", "trace": 7}, None)
    assert passed == {
        "version": "v2",
        "status": "success",
        "statusCode": 200,
        "message": "OK",
        "data": None,
        "trace": 7,
    }


def test_an_empty_text_for_a_number_is_null_and_one_for_a_text_stays() -> None:
    item = {"contactID": "", "firstname": "", "group_membership": [{"groupID": "", "members": "", "name": ""}]}
    passed = passed_on(operation("GetContactsByID"), {}, item)["data"]
    assert passed == {
        "contactID": None,
        "firstname": "",
        "group_membership": [{"groupID": None, "members": None, "name": ""}],
    }


@pytest.mark.parametrize(
    ("came", "text"),
    [(27771153, "27771153"), (27771153.0, "27771153"), (-5, "-5"), (2.5, "2.5"), (2**70, str(2**70)), (True, "true"),
     (False, "false"), (0, "0"), ("027", "027"), (None, None)],
)  # fmt: skip
def test_a_text_that_came_as_a_number_is_a_text(came: Any, text: str | None) -> None:
    item = {"contactID": 966, "number": came, "lastname": came, "group_membership": [{"groupID": 1, "name": came}]}
    for row, data in ((operation("GetContactsByID"), item), (operation("GetContacts"), [item])):
        answered = passed_on(row, {}, data)["data"]
        one = answered[0] if row.lists else answered
        assert (one["contactID"], one["number"], one["lastname"]) == (966, text, text)
        assert one["group_membership"] == [{"groupID": 1, "name": text}]


def test_a_time_that_came_as_a_number_is_a_text_and_a_field_that_nobody_knows_stays() -> None:
    item = {"callID": 1, "callStarted": 1524664459, "status": 1, "other": 5}
    (answered,) = passed_on(operation("GetCallHistory"), {}, [item])["data"]
    assert answered == item | {"callStarted": "1524664459"}


@pytest.mark.parametrize("data", [None, "", [], {}, "ringing", 5], ids=repr)
def test_what_brings_no_item_may_say_nothing(data: Any, bridge: Bridge) -> None:
    row = Operation(id="HangUp", method="POST", path="hangup", parameters=(), summary="", description="")

    class Silent:
        def envelope(self, operation: str, *, lane: str, **values: Any) -> dict[str, Any]:
            return {"status": "success", "data": data}

    for one in (row, replace(row, command=True)):
        answer = act(replace(bridge, pbx=Silent()), one, Request(headers={"Idempotency-Key": str(one.command)}))  # type: ignore[arg-type]
        assert (answer["statusCode"], answer["data"]) == (200, data)
