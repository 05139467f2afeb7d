"""A call rings once, with anything repeated, raced, lost or killed on the way."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dev.simulator import Simulator
from shared import people
from shared.api.actions import KEEP, act
from shared.api.parameters import Request
from shared.calls import dials
from shared.calls.dials import LIMIT as PARTITION
from shared.calls.dials import TABLE, UNCERTAIN_WINDOW
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
from shared.pbx.operations import operation
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.bridge import Bridge
    from shared.settings import Settings
    from shared.storage.account import Storage

CONTACT = 966
NUMBER = "27771153"
KEY = {"Idempotency-Key": "order-4711"}
RUN = {
    "x-ms-workflow-run-id": "08586734240477305429153721775CU46",
    "x-ms-workflow-operation-name": "Dial",
    "x-ms-action-tracking-id": "36d9bbe9-d8b2-469c-baac-96bf7495c21f",
    "x-ms-client-request-id": "a356c50f-c02e-4f95-b347-d1f11bd5b1b9",
}


@pytest.fixture
def pbx() -> Iterator[Simulator]:
    with Simulator() as simulator:
        simulator.add_contact("Anna", "Bērziņa", contact_id=CONTACT)
        yield simulator


@pytest.fixture
def start(
    pbx: Simulator, settings: Settings, storage: Storage, start_bridge: Callable[..., Bridge]
) -> Callable[..., Bridge]:
    def started(**terms: Any) -> Bridge:
        budget = Budget(storage, uuid.uuid4().hex, **{"limit": 100_000, **terms})
        return start_bridge(Pbx(replace(settings, pbx_base_url=pbx.base_url, pbx_api_key=pbx.api_key), budget))

    return started


@pytest.fixture
def bridge(start: Callable[..., Bridge]) -> Bridge:
    return start()


def dial(bridge: Bridge, headers: dict[str, str], destination: str = NUMBER, contact: int = CONTACT) -> dict[str, Any]:
    body = f'{{"destination": "{destination}", "contactID": {contact}}}'.encode()
    return act(bridge, operation("Dial"), Request(body=body, headers=headers))


def rings(pbx: Simulator) -> int:
    return sum(seen.operation == "Dial" and seen.status < 400 for seen in pbx.requests)


def age(bridge: Bridge, by: timedelta) -> None:
    """Let the claims grow old."""
    table = bridge.storage.table(TABLE)
    for row in list(table.query_entities(f"PartitionKey ne '{PARTITION}'")):
        table.upsert_entity({**row, "since": row["since"] - by, "until": row["until"] - by})


@pytest.mark.parametrize("headers", [KEY, RUN, {}], ids=["key", "run", "neither"])
def test_the_same_request_rings_once_and_is_answered_alike(
    headers: dict[str, str], start: Callable[..., Bridge], pbx: Simulator
) -> None:
    first = dial(start(), headers)
    assert first["statusCode"] == 200
    assert [dial(start(), headers) for _ in range(3)] == [first] * 3
    assert rings(pbx) == 1


def test_a_retry_of_the_workflow_has_another_request_id_only(bridge: Bridge, pbx: Simulator) -> None:
    for number in range(3):
        dial(bridge, RUN | {"x-ms-client-request-id": str(number), "x-ms-tracking-id": str(number)})
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


@pytest.mark.parametrize("headers", [RUN, {}], ids=["run", "neither"])
def test_another_call_rings(headers: dict[str, str], bridge: Bridge, pbx: Simulator) -> None:
    pbx.add_contact("Jānis", "Ozols", contact_id=967)
    dial(bridge, headers)
    dial(bridge, headers, destination="27771154")
    dial(bridge, headers, contact=967)
    assert rings(pbx) == 3


def test_a_number_in_another_spelling_is_the_same_call(bridge: Bridge, pbx: Simulator) -> None:
    dial(bridge, {})
    dial(bridge, {}, destination="+371 2777-1153")
    assert rings(pbx) == 1


@pytest.mark.parametrize(
    ("headers", "window"), [(KEY, KEEP), (RUN, KEEP), ({}, timedelta(minutes=1))], ids=["key", "run", "neither"]
)
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


def test_a_key_is_for_one_call(bridge: Bridge, pbx: Simulator) -> None:
    dial(bridge, KEY)
    with pytest.raises(Refused, match="already used"):
        dial(bridge, KEY, destination="27771154")
    assert rings(pbx) == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "nē", "a b"], ids=repr)
def test_a_key_is_ascii_without_spaces(key: str, bridge: Bridge, pbx: Simulator) -> None:
    with pytest.raises(Invalid, match="Idempotency-Key"):
        dial(bridge, {"Idempotency-Key": key})
    assert rings(pbx) == 0


@pytest.mark.parametrize("headers", [KEY, RUN, {}], ids=["key", "run", "neither"])
def test_many_at_once_ring_once_and_hear_the_same(headers: dict[str, str], bridge: Bridge, pbx: Simulator) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: dial(bridge, headers), range(24)))
    assert answers == [answers[0]] * 24
    assert rings(pbx) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 403}, PbxForbidden),
        ({"status": 429, "retry_after": "1"}, PbxThrottled),
    ],
    ids=["forbidden", "throttled"],
)
def test_a_pbx_that_said_no_is_asked_again(
    fault: dict[str, Any], error: type[Exception], bridge: Bridge, pbx: Simulator
) -> None:
    pbx.faults.add("status", "Dial", times=1, **fault)
    with pytest.raises(error):
        dial(bridge, KEY)
    assert dial(bridge, KEY)["statusCode"] == 200
    assert rings(pbx) == 1


def test_an_employee_who_does_not_exist_is_not_found_each_time(bridge: Bridge, pbx: Simulator) -> None:
    for _ in range(2):
        with pytest.raises(PbxNotFound):
            dial(bridge, KEY, contact=5)
    assert rings(pbx) == 0


@pytest.mark.parametrize("headers", [KEY, RUN, {}], ids=["key", "run", "neither"])
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
    pbx.faults.add("slow", "Dial", delay=0.0)
    dial(bridge, {})
    table = bridge.storage.table(TABLE)
    (row,) = (row for row in table.list_entities() if row["PartitionKey"] != PARTITION)
    table.upsert_entity({**row, "state": "ringing", "since": now(), "until": now() + UNCERTAIN_WINDOW})
    with pytest.raises(Refused, match="in progress"):
        dial(bridge, {})
    age(bridge, timedelta(minutes=2))
    with pytest.raises(Refused, match="did not say"):
        dial(bridge, {})
    age(bridge, UNCERTAIN_WINDOW)
    assert dial(bridge, {})["statusCode"] == 200
    assert rings(pbx) == 2


def test_no_call_left_in_the_budget_is_no_ring_and_no_claim(start: Callable[..., Bridge], pbx: Simulator) -> None:
    spent = start(limit=1)
    spent.pbx._budget.take("action")
    with pytest.raises(BudgetExhausted):
        dial(spent, KEY)
    dial(start(), KEY)
    assert rings(pbx) == 1


def test_nothing_rings_while_storage_is_away(bridge: Bridge, settings: Settings, pbx: Simulator) -> None:
    nowhere = replace(settings.storage, connection_string=_moved(settings.storage.connection_string or ""))
    away = replace(bridge, storage=type(bridge.storage)(nowhere))
    with pytest.raises(StorageUnavailable):
        dial(away, KEY)
    assert rings(pbx) == 0


def _moved(connection_string: str) -> str:
    parts = [part for part in connection_string.split(";") if part and not part.startswith("TableEndpoint")]
    return ";".join([*parts, "TableEndpoint=http://127.0.0.1:9/nowhere;"])


def test_a_silent_pbx_is_unavailable_first(bridge: Bridge, pbx: Simulator) -> None:
    pbx.faults.add("reset", "Dial", times=1)
    with pytest.raises(PbxUnavailable):
        dial(bridge, KEY)


def test_a_pbx_that_was_never_reached_may_be_asked_again(bridge: Bridge, settings: Settings, pbx: Simulator) -> None:
    nowhere = replace(settings, pbx_base_url="http://127.0.0.1:9/api/v2/")
    away = replace(bridge, pbx=Pbx(nowhere, Budget(bridge.storage, "nowhere"), pause=lambda seconds: None))
    with pytest.raises(PbxUnreachable):
        dial(away, KEY)
    dial(bridge, KEY)
    assert rings(pbx) == 1


def test_more_calls_than_an_hour_may_have_do_not_ring_and_leave_no_claim(bridge: Bridge, pbx: Simulator) -> None:
    bridge = replace(bridge, settings=replace(bridge.settings, dial_per_hour=2))
    first = dial(bridge, KEY)
    dial(bridge, {}, destination="27771154")
    for _ in range(2):
        with pytest.raises(Refused, match="Hourly"):
            dial(bridge, RUN)
    assert dial(bridge, KEY) == first
    dial(replace(bridge, settings=replace(bridge.settings, dial_per_hour=3)), RUN)
    assert rings(pbx) == 3


def test_what_did_not_ring_leaves_room_for_what_does(bridge: Bridge, settings: Settings, pbx: Simulator) -> None:
    bridge = replace(bridge, settings=replace(bridge.settings, dial_per_hour=1))
    nowhere = replace(settings, pbx_base_url="http://127.0.0.1:9/api/v2/")
    away = replace(bridge, pbx=Pbx(nowhere, Budget(bridge.storage, "nowhere"), pause=lambda seconds: None))
    for _ in range(3):
        with pytest.raises(PbxUnreachable):
            dial(away, KEY)
    dial(bridge, KEY)
    assert rings(pbx) == 1


def test_what_may_have_rung_counts(bridge: Bridge, pbx: Simulator) -> None:
    bridge = replace(bridge, settings=replace(bridge.settings, dial_per_hour=1))
    pbx.faults.add("reset", "Dial", times=1, before=False)
    with pytest.raises(PbxUnavailable):
        dial(bridge, KEY)
    with pytest.raises(Refused, match="Hourly"):
        dial(bridge, {"Idempotency-Key": "another"})


def test_no_number_and_no_key_stand_in_the_table(bridge: Bridge) -> None:
    dial(bridge, KEY)
    dial(bridge, RUN)
    [pointer, _] = people.find(bridge.storage, people.number(f"+371{NUMBER}", "LV"), ("dial",))
    assert dials.get(bridge.storage, pointer.id)
    dials.remove(bridge.storage, pointer.id)
    assert dials.get(bridge.storage, pointer.id) is None
    rows = str(list(bridge.storage.table(TABLE).list_entities()))
    assert NUMBER not in rows
    assert KEY["Idempotency-Key"] not in rows
    assert RUN["x-ms-workflow-run-id"] not in rows


@pytest.mark.parametrize(
    "wrapper",
    [
        {"status": "employee busy", "statusCode": 200},
        {"status": "server error", "statusCode": 200, "data": []},
        {"status": "error", "message": "Employee is busy"},
        {"status": "FAIL"},
        {"status": False},
        {"success": False},
        {"errors": [{"message": "Employee is busy"}]},
        {"statusCode": "422"},
        {"data": {"error": "Employee is busy"}},
    ],
    ids=str,
)
def test_an_error_in_a_good_looking_answer_is_no_ring(wrapper: dict[str, Any], bridge: Bridge, pbx: Simulator) -> None:
    pbx.faults.add("wrapper", match="Dial", value=wrapper, times=1)
    with pytest.raises(PbxRefused):
        dial(bridge, {"Idempotency-Key": "one"})
    assert not pbx.rang
    dial(bridge, {"Idempotency-Key": "one"})
    assert len(pbx.rang) == 1
