"""Actions return the PBX's answers unchanged; a call rings once despite repeats, races, lost answers and kills."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dev.simulator import Simulator
from shared import people
from shared.api.actions import KEEP, act
from shared.api.envelopes import passed_on
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.calls import dials
from shared.calls.dials import LIMIT, TABLE, UNCERTAIN_WINDOW
from shared.errors import (
    BudgetExhausted,
    Invalid,
    PbxForbidden,
    PbxNotFound,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
    PbxUnreachable,
    Refused,
    StorageUnavailable,
)
from shared.pbx.budget import Budget
from shared.pbx.client import Pbx
from shared.pbx.operations import Operation, operation
from shared.pbx.resources import RESOURCES, Resource
from shared.settings import Settings
from shared.storage.account import Storage
from shared.times import now
from shared.values import LARGEST_ID

CONTACT, NUMBER = 966, "27771153"
KEY = {"Idempotency-Key": "order-4711"}
RUN = {
    "x-ms-workflow-run-id": "08586734240477305429153721775CU46",
    "x-ms-workflow-operation-name": "Dial",
    "x-ms-action-tracking-id": "36d9bbe9-d8b2-469c-baac-96bf7495c21f",
    "x-ms-client-request-id": "a356c50f-c02e-4f95-b347-d1f11bd5b1b9",
}
NOWHERE = "http://127.0.0.1:9/api/v2/"
each_way = pytest.mark.parametrize("headers", [KEY, RUN, {}], ids=["key", "run", "neither"])


@pytest.fixture
def start(
    pbx: Simulator, settings: Settings, storage: Storage, start_bridge: Callable[..., Bridge]
) -> Callable[..., Bridge]:
    """Start the bridge of a new process, at the PBX or at another address."""
    pbx.add_contact("Anna", "Bērziņa", contact_id=CONTACT)

    def started(url: str = pbx.base_url, **terms: Any) -> Bridge:
        budget = Budget(storage, uuid.uuid4().hex, **{"limit": 100_000, **terms})
        there = replace(settings, pbx_base_url=url, pbx_api_key=pbx.api_key)
        return start_bridge(Pbx(there, budget, pause=lambda seconds: None))

    return started


@pytest.fixture
def bridge(start: Callable[..., Bridge]) -> Bridge:
    return start()


def with_limit(bridge: Bridge, limit: int) -> Bridge:
    return replace(bridge, settings=replace(bridge.settings, dial_per_hour=limit))


def read(bridge: Bridge, row: Operation, item_id: int) -> dict[str, Any]:
    (parameter,) = row.parameters
    return act(bridge, row, Request(path={parameter.name: str(item_id)}))


def dial(bridge: Bridge, headers: dict[str, str], destination: str = NUMBER, contact: int = CONTACT) -> dict[str, Any]:
    body = f'{{"destination": "{destination}", "contactID": {contact}}}'.encode()
    return act(bridge, operation("Dial"), Request(body=body, headers=headers))


def rings(pbx: Simulator) -> int:
    return sum(seen.operation == "Dial" and seen.status < 400 for seen in pbx.requests)


def age(bridge: Bridge, by: timedelta) -> None:
    """Let the claims grow old."""
    table = bridge.storage.table(TABLE)
    for row in list(table.query_entities(f"PartitionKey ne '{LIMIT}'")):
        table.upsert_entity({**row, "since": row["since"] - by, "until": row["until"] - by})


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_an_item_comes_as_the_pbx_has_it_with_exact_ids(row: Resource, bridge: Bridge, pbx: Simulator) -> None:
    pbx.options.extra_fields = True
    pbx.add(row.name, LARGEST_ID)
    reading = operation(row.read_operation)
    envelope = read(bridge, reading, LARGEST_ID)
    assert (envelope["version"], envelope["status"], envelope["statusCode"]) == ("v2", "success", 200)
    assert (envelope["data"][row.id_field], envelope["data"]["queueName"]) == (LARGEST_ID, "Pārdošana")
    assert {field.name for field in reading.item} <= envelope["data"].keys()
    with pytest.raises(PbxNotFound):
        read(bridge, reading, 12345)
    before = len(pbx.requests)
    with pytest.raises(Invalid):
        read(bridge, reading, 0)
    assert len(pbx.requests) == before


def test_lost_calls_pass_their_filters_on(bridge: Bridge, pbx: Simulator) -> None:
    query = {"destination": "+371 27771153", "date_from": "2018-04-25T16:54:19+0300", "date_to": "2018-04-25"}
    act(bridge, operation("GetLostCalls"), Request(query=query | {"limit": "5", "offset": "2"}))
    (seen,) = pbx.requests
    assert "destination=%2B37127771153" in seen.query
    assert "limit=5&offset=2" in seen.query
    assert "date_from=2018-04-25T13%3A54%3A19Z" in seen.query
    # The end of that day in Riga.
    assert "date_to=2018-04-25T20%3A59%3A59.999999Z" in seen.query


def test_missing_fields_of_the_pbx_s_wrapper_are_filled_in() -> None:
    passed = passed_on(operation("Dial"), {"message": None, "statusCode": "200", "trace": 7}, None)
    wrapping = {"version": "v2", "status": "success", "statusCode": 200, "message": "OK", "data": None}
    assert passed == wrapping | {"trace": 7}


@pytest.mark.parametrize(
    ("came", "text"),
    [(27771153, "27771153"), (27771153.0, "27771153"), (-5, "-5"), (2.5, "2.5"), (2**70, str(2**70)), (True, "true"),
     (0, "0"), ("027", "027"), ("", ""), (None, None)],
)  # fmt: skip
def test_a_text_that_came_as_a_number_is_a_text(came: Any, text: str | None) -> None:
    item = {"contactID": 966, "number": came, "lastname": came, "group_membership": [{"groupID": 1, "name": came}]}
    for row, data in ((operation("GetContactsByID"), item), (operation("GetContacts"), [item])):
        answered = passed_on(row, {}, data)["data"]
        one = answered[0] if row.lists else answered
        assert (one["contactID"], one["number"], one["lastname"]) == (966, text, text)
        assert one["group_membership"] == [{"groupID": 1, "name": text}]


def test_invalid_numbers_are_null_and_unknown_fields_stay() -> None:
    item = {"callID": 1, "callStarted": 1524664459, "status": "", "contactID": "966", "other": 5}
    (answered,) = passed_on(operation("GetCallHistory"), {}, [item])["data"]
    assert answered == item | {"callStarted": "1524664459", "status": None, "contactID": 966}


@pytest.mark.parametrize("data", [None, "", [], {}, "ringing", 5], ids=repr)
def test_an_operation_without_an_item_may_have_an_empty_answer(data: Any, bridge: Bridge) -> None:
    row = Operation(id="HangUp", method="POST", path="hangup", parameters=(), summary="", description="")

    class Silent:
        def envelope(self, operation: str, *, lane: str, **values: Any) -> dict[str, Any]:
            return {"status": "success", "data": data}

    for one in (row, replace(row, command=True)):
        given = Request(headers={"Idempotency-Key": str(one.command)})
        answer = act(replace(bridge, pbx=Silent()), one, given)  # type: ignore[arg-type]
        assert (answer["statusCode"], answer["data"]) == (200, data)


@each_way
def test_the_same_request_rings_once_and_is_answered_alike(
    headers: dict[str, str], start: Callable[..., Bridge], pbx: Simulator
) -> None:
    first = dial(start(), headers)
    assert first["statusCode"] == 200
    # A retry of the workflow has another request id only.
    again = headers | ({"x-ms-client-request-id": "another"} if headers else {})
    assert [dial(start(), again) for _ in range(3)] == [first] * 3
    assert rings(pbx) == 1
    dial(start(), headers, destination="+371 2777-1153")
    assert rings(pbx) == 1


@pytest.mark.parametrize(
    "other",
    [
        RUN | {"x-ms-workflow-run-id": "another run"},
        RUN | {"x-ms-workflow-operation-name": "Dial_again"},
        RUN | {"x-ms-action-tracking-id": "another repetition"},
        KEY,
    ],
    ids=["run", "action", "repetition", "key"],
)
def test_another_request_for_the_same_call_rings_again(other: dict[str, str], bridge: Bridge, pbx: Simulator) -> None:
    dial(bridge, RUN)
    dial(bridge, other)
    assert rings(pbx) == 2


@each_way
def test_another_call_rings_but_not_under_the_same_key(headers: dict[str, str], bridge: Bridge, pbx: Simulator) -> None:
    pbx.add_contact("Jānis", "Ozols", contact_id=967)
    dial(bridge, headers)
    for destination, contact in (("27771154", CONTACT), (NUMBER, 967)):
        if headers == KEY:
            with pytest.raises(Refused, match="already used"):
                dial(bridge, headers, destination, contact)
        else:
            dial(bridge, headers, destination, contact)
    assert rings(pbx) == (1 if headers == KEY else 3)


@pytest.mark.parametrize(("headers", "window"), [(KEY, KEEP), (RUN, KEEP), ({}, timedelta(minutes=1))])
def test_a_ring_is_remembered_for_its_window(
    headers: dict[str, str], window: timedelta, bridge: Bridge, pbx: Simulator
) -> None:
    dial(bridge, headers)
    age(bridge, window - timedelta(seconds=20))
    dial(bridge, headers)
    assert rings(pbx) == 1
    age(bridge, timedelta(seconds=21))
    dial(bridge, headers)
    assert rings(pbx) == 2


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "nē", "a b"], ids=lambda key: key[:9])
def test_a_key_is_ascii_without_spaces(key: str, bridge: Bridge, pbx: Simulator) -> None:
    with pytest.raises(Invalid, match="Idempotency-Key"):
        dial(bridge, {"Idempotency-Key": key})
    assert rings(pbx) == 0


@each_way
def test_many_at_once_ring_once_and_hear_the_same(headers: dict[str, str], bridge: Bridge, pbx: Simulator) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: dial(bridge, headers), range(24)))
    assert answers == [answers[0]] * 24
    assert rings(pbx) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "status", "status": 403}, PbxForbidden),
        ({"kind": "status", "status": 429, "retry_after": "1"}, PbxThrottled),
        ({"kind": "wrapper", "value": {"status": "employee busy", "statusCode": 200}}, PbxRefused),
        ({"kind": "wrapper", "value": {"success": False}}, PbxRefused),
    ],
    ids=["forbidden", "throttled", "busy", "no success"],
)
def test_a_refused_call_may_be_repeated(
    fault: dict[str, Any], error: type[Exception], bridge: Bridge, pbx: Simulator
) -> None:
    pbx.faults.add(match="Dial", times=1, **fault)
    with pytest.raises(error):
        dial(bridge, KEY)
    assert not pbx.rang
    with pytest.raises(PbxNotFound):
        dial(bridge, {"Idempotency-Key": "another"}, contact=5)
    assert dial(bridge, KEY)["statusCode"] == 200
    assert len(pbx.rang) == 1


@each_way
@pytest.mark.parametrize(
    "fault", [{"kind": "reset"}, {"kind": "status", "status": 500}, {"kind": "html"}], ids=lambda fault: fault["kind"]
)
def test_a_call_that_may_have_rung_is_not_rung_again(
    headers: dict[str, str], fault: dict[str, Any], bridge: Bridge, pbx: Simulator
) -> None:
    pbx.faults.add(match="Dial", times=1, before=False, **fault)
    with pytest.raises(Exception, match="Dial"):
        dial(bridge, headers)
    for _ in range(3):
        with pytest.raises(Refused, match="did not say"):
            dial(bridge, headers)
    assert sum(seen.operation == "Dial" for seen in pbx.requests) == 1


def test_a_process_that_died_while_ringing_leaves_it_uncertain(
    bridge: Bridge, pbx: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dials, "_WAIT_SECONDS", 0.0)
    dial(bridge, {})
    table = bridge.storage.table(TABLE)
    (row,) = (row for row in table.list_entities() if row["PartitionKey"] != LIMIT)
    table.upsert_entity({**row, "state": "ringing", "since": now(), "until": now() + UNCERTAIN_WINDOW})
    with pytest.raises(Refused, match="in progress"):
        dial(bridge, {})
    age(bridge, timedelta(minutes=2))
    with pytest.raises(Refused, match="did not say"):
        dial(bridge, {})
    age(bridge, UNCERTAIN_WINDOW)
    assert dial(bridge, {})["statusCode"] == 200
    assert rings(pbx) == 2


def test_a_call_that_cannot_ring_leaves_no_claim(
    start: Callable[..., Bridge], settings: Settings, pbx: Simulator
) -> None:
    spent = start(limit=1)
    spent.pbx._budget.take("action")
    with pytest.raises(BudgetExhausted):
        dial(spent, KEY)
    parts = (settings.storage.connection_string or "").split(";")
    parts = [part for part in parts if part and not part.startswith("TableEndpoint")]
    moved = ";".join([*parts, "TableEndpoint=http://127.0.0.1:9/nowhere;"])
    nowhere = type(spent.storage)(replace(settings.storage, connection_string=moved))
    with pytest.raises(StorageUnavailable):
        dial(replace(start(), storage=nowhere), KEY)
    # A PBX that was never reached counts for nothing in the hour's limit either.
    for _ in range(3):
        with pytest.raises(PbxUnreachable):
            dial(with_limit(start(NOWHERE), 1), KEY)
    assert rings(pbx) == 0
    dial(with_limit(start(), 1), KEY)
    assert rings(pbx) == 1


def test_more_calls_than_an_hour_may_have_do_not_ring_and_leave_no_claim(bridge: Bridge, pbx: Simulator) -> None:
    bridge = with_limit(bridge, 2)
    first = dial(bridge, KEY)
    # A call that may have rung counts.
    pbx.faults.add("reset", "Dial", times=1, before=False)
    with pytest.raises(PbxUnavailable):
        dial(bridge, {}, destination="27771154")
    for _ in range(2):
        with pytest.raises(Refused, match="Hourly"):
            dial(bridge, RUN)
    assert dial(bridge, KEY) == first
    dial(with_limit(bridge, 3), RUN)
    assert len(pbx.rang) == 3


def test_no_number_and_no_key_stand_in_the_table(bridge: Bridge) -> None:
    dial(bridge, KEY)
    dial(bridge, RUN)
    [pointer, _] = people.find(bridge.storage, people.number(f"+371{NUMBER}", "LV"), ("dial",))
    assert bridge.storage.table(TABLE).get_entity(pointer.id[:2], pointer.id)
    rows = str(list(bridge.storage.table(TABLE).list_entities()))
    assert not [one for one in (NUMBER, KEY["Idempotency-Key"], RUN["x-ms-workflow-run-id"]) if one in rows]
