"""The PBX's client over real HTTP: answers, errors, and requests that are never repeated."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.listener import Listener
from dev.simulator import Simulator
from shared.bridge import Bridge
from shared.errors import (
    BudgetExhausted,
    PbxError,
    PbxForbidden,
    PbxNotUnderstood,
    PbxThrottled,
    PbxUnavailable,
    PbxUnreachable,
)
from shared.pbx import client as clients
from shared.pbx.budget import Budget
from shared.pbx.client import Pbx
from shared.pbx.operations import OPERATIONS
from shared.pbx.resources import RESOURCES, Resource, resource
from shared.polling import run as polls
from shared.polling.poll import poll
from shared.polling.run import checkpoint_of
from shared.settings import Settings
from shared.storage.account import Storage
from tests.polls import NoBudget
from tests.raw import RawServer, dripping, fixed, head

KEY = "OnYSrLTH3i2qiyb873au2LNdAajXjf5I"
NUMBER = "+37127771153"
LARGEST_ID = 2**63 - 1


class Waits(list[float]):
    """The client's pauses; `clock` adds them to the real time."""

    def clock(self) -> float:
        return time.time() + sum(self)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def connect(settings: Settings, storage: Storage, waits: Waits) -> Callable[..., Pbx]:
    def pbx(base_url: str, key: str = KEY) -> Pbx:
        budget = Budget(storage, uuid.uuid4().hex, limit=100_000, clock=waits.clock)
        return Pbx(replace(settings, pbx_base_url=base_url, pbx_api_key=key), budget, pause=waits.append)

    return pbx


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY) as simulator:
        yield simulator


@pytest.fixture
def pbx(simulator: Simulator, connect: Callable[..., Pbx]) -> Pbx:
    return connect(simulator.base_url)


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.name)
def test_lists_and_reads_bring_items_with_exact_ids(row: Resource, pbx: Pbx, simulator: Simulator) -> None:
    simulator.add(row.name, LARGEST_ID)
    [item] = pbx.call(row.list_operation, lane="poll", **{row.cursor_parameter: LARGEST_ID - 1, "limit": 5})
    assert item[row.id_field] == LARGEST_ID
    assert pbx.call(row.read_operation, lane="action", **{row.id_parameter: LARGEST_ID}) == item
    assert pbx.call(row.list_operation, lane="poll", **{row.cursor_parameter: LARGEST_ID}) == []


@pytest.mark.parametrize("empty", ["data", "404"])
@pytest.mark.parametrize("operation", [row.id for row in OPERATIONS if row.lists])
def test_an_empty_list_is_empty_however_the_pbx_says_it(
    operation: str, empty: str, pbx: Pbx, simulator: Simulator
) -> None:
    simulator.options.empty = empty
    assert pbx.call(operation, lane="poll") == []


def test_filters_and_moments_reach_the_pbx(pbx: Pbx, simulator: Simulator) -> None:
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    old = simulator.add("call_history", caller=NUMBER, callStarted=moment - timedelta(hours=1))
    new = simulator.add("call_history", caller=NUMBER, callStarted=moment)
    found = pbx.call("GetCallHistory", lane="poll", source=NUMBER, date_from=moment, destination=None)
    assert [call["callID"] for call in found] == [new]
    assert old != new


def test_dial_rings_once_and_brings_what_the_pbx_says(pbx: Pbx, simulator: Simulator) -> None:
    contact = simulator.add_contact("Anna", number=NUMBER)
    assert pbx.call("Dial", lane="action", destination="27771153", contactID=contact) == {}
    assert pbx.envelope("Dial", lane="action", destination="27771153", contactID=contact)["statusCode"] == 200
    assert [(rang.destination, rang.contact_id) for rang in simulator.rang] == [("27771153", contact)] * 2


@pytest.mark.parametrize(
    "parameters",
    [{"destination": "27771153"}, {"destination": "27771153", "contactID": 1, "contact": 2}],
    ids=["missing", "unknown"],
)
def test_a_wrong_parameter_never_leaves_the_house(parameters: dict[str, Any], pbx: Pbx, simulator: Simulator) -> None:
    with pytest.raises(TypeError, match="Dial"):
        pbx.call("Dial", lane="action", **parameters)
    assert simulator.calls_seen() == []


def test_a_missing_grant_names_the_method_to_tick(pbx: Pbx, simulator: Simulator) -> None:
    simulator.options.refused.add("GetGroups")
    with pytest.raises(PbxForbidden, match=r"tick the API method GET trigger/groups"):
        pbx.call("GetGroups", lane="poll")


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(b" " * (64 * 2**20))), ("gzip", b"\x01\x02\x03"), ("br", b"\x01\x02\x03")],
    ids=["a bomb", "no gzip", "brotli"],
)
def test_only_an_answer_of_a_real_size_is_unpacked(encoding: str, body: bytes, connect: Callable[..., Pbx]) -> None:
    envelope = json.dumps({"statusCode": 200, "data": [{"contactID": LARGEST_ID}]}).encode()
    for packed, items in ((body, None), (gzip.compress(envelope), [{"contactID": LARGEST_ID}])):
        encoding = encoding if items is None else "gzip"
        lines = (f"Content-Encoding: {encoding}", f"Content-Length: {len(packed)}")
        with RawServer(fixed(head(*lines), packed)) as server:
            client = connect(f"{server.origin}/")
            with pytest.raises(PbxNotUnderstood) if items is None else nullcontext():
                assert client.call("GetContacts", lane="poll") == items


RECOVERIES = [
    pytest.param("reset", {}, id="reset"),
    pytest.param("truncated", {}, id="truncated"),
    pytest.param("status", {"status": 500}, id="500"),
    pytest.param("html", {"status": 502}, id="502-page"),
    pytest.param("status", {"status": 429, "retry_after": "3"}, id="429"),
]


@pytest.mark.parametrize(("kind", "fault"), RECOVERIES)
def test_a_read_survives_three_failures(
    kind: str, fault: dict[str, Any], pbx: Pbx, simulator: Simulator, waits: Waits
) -> None:
    assert pbx.headers() == {"Authorization": f"Bearer {KEY}"}
    simulator.add_contact("Anna")
    simulator.faults.add(kind, times=3, **fault)
    assert len(pbx.call("GetContacts", lane="poll")) == 1
    assert len(simulator.calls_seen()) == 4
    assert len(waits) == 3
    assert all(0 < wait <= 7 for wait in waits)


@pytest.mark.parametrize(("kind", "fault"), RECOVERIES)
@pytest.mark.parametrize("operation", ["Dial", "Subscribe", "DeleteWebhookByID"])
def test_what_acts_is_never_repeated(
    operation: str, kind: str, fault: dict[str, Any], pbx: Pbx, simulator: Simulator
) -> None:
    contact = simulator.add_contact("Anna", number=NUMBER)
    asked: dict[str, Callable[[], Any]] = {
        "Dial": lambda: pbx.call("Dial", lane="action", destination="27771153", contactID=contact),
        "Subscribe": lambda: pbx.subscribe("CallStarted", "http://127.0.0.1:9/x"),
        "DeleteWebhookByID": lambda: pbx.unsubscribe("1"),
    }
    simulator.faults.add(kind, **fault)
    with pytest.raises((PbxUnavailable, PbxThrottled)):
        asked[operation]()
    assert len(simulator.calls_seen()) == 1


@pytest.mark.parametrize(
    "case",
    [("5", 4, 5), ("0", 4, 0), ("soon", 4, None), ("30", 1, 30), ("Fri, 01 Jan 2100 00:00:00 GMT", 1, 86400)],
)
def test_retry_after_rests_the_whole_budget(
    case: tuple[str, int, int | None], pbx: Pbx, simulator: Simulator, waits: Waits
) -> None:
    asked, attempts, expected = case
    simulator.faults.add("status", status=429, retry_after=asked)
    with pytest.raises(PbxThrottled) as caught:
        pbx.call("GetContacts", lane="poll")
    assert caught.value.retry_after == expected
    assert len(simulator.calls_seen()) == attempts
    assert all(wait >= (expected or 0) for wait in waits)
    if expected:
        with pytest.raises(BudgetExhausted):
            pbx.call("GetGroups", lane="action")


def test_each_attempt_draws_on_the_budget(settings: Settings, storage: Storage, simulator: Simulator) -> None:
    budget = Budget(storage, uuid.uuid4().hex, limit=29)
    client = Pbx(replace(settings, pbx_base_url=simulator.base_url, pbx_api_key=KEY), budget, pause=lambda _: None)
    simulator.faults.add("status", status=503)
    with pytest.raises(PbxUnavailable):
        client.call("GetContacts", lane="poll")
    with pytest.raises(BudgetExhausted):
        client.call("GetContacts", lane="poll")
    assert len(simulator.calls_seen()) == 4


def test_without_a_key_nothing_is_asked_and_the_error_names_the_setting(connect: Callable[..., Pbx]) -> None:
    with pytest.raises(PbxForbidden, match="PBX_API_KEY is missing"):
        connect("http://127.0.0.1:9/api/v2/", key="").call("GetContacts", lane="poll")


def test_an_address_where_nobody_listens_is_unreachable(connect: Callable[..., Pbx]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v2/"
        with pytest.raises(PbxUnreachable):
            connect(url).call("GetContacts", lane="poll")


def test_the_key_follows_no_redirect(pbx: Pbx, simulator: Simulator) -> None:
    with Simulator(api_key=KEY) as other:
        simulator.faults.add("redirect", location=f"{other.base_url}trigger/contacts")
        with pytest.raises(PbxNotUnderstood):
            pbx.call("GetContacts", lane="poll")
        assert other.calls_seen() == []


def test_a_webhook_is_made_and_deleted_and_may_be_gone_already(pbx: Pbx, simulator: Simulator) -> None:
    id = pbx.subscribe("CallRecorded", "http://127.0.0.1:9/x")
    assert [(hook.event, str(hook.id)) for hook in simulator.webhooks] == [("CallRecorded", id)]
    assert id
    pbx.unsubscribe(id)
    pbx.unsubscribe(id)
    assert simulator.webhooks == []


def test_failures_are_logged_by_name_alone(pbx: Pbx, simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for kind, fault in (("reset", {}), ("status", {"status": 500}), ("status", {"status": 422})):
        simulator.faults.clear()
        simulator.faults.add(kind, **fault)
        with pytest.raises(PbxError) as caught:
            pbx.call("GetCallHistory", lane="poll", source=NUMBER)
        assert NUMBER not in str(caught.value)
        assert caught.value.__cause__ is None
    assert [record.message for record in caplog.records if record.name == "shared.pbx.client"] == [
        *(f"PBX GetCallHistory failed: PbxUnavailable, attempt {number}" for number in range(1, 5)),
        *(f"PBX GetCallHistory failed: PbxUnavailable, attempt {number}" for number in range(1, 5)),
        "PBX GetCallHistory failed: PbxRefused, attempt 1",
    ]
    assert KEY not in caplog.text
    assert NUMBER.removeprefix("+") not in caplog.text


def test_a_command_makes_a_connection_of_its_own(connect: Callable[..., Pbx]) -> None:
    with Listener(lambda received: (200, {"Location": "/webhooks/1"})) as listener:
        client = connect(f"{listener.origin}/")
        for _ in range(3):
            client.subscribe("CallStarted", "https://app.example/x")
        assert len({received.port for received in listener.received}) == 3


@pytest.mark.parametrize("delay", [30.0, 0.1], ids=["a PBX that hangs", "a PBX that drips"])
@pytest.mark.parametrize(
    "begin",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 "],
    ids=["in the body", "in a header", "in the status"],
)
def test_a_call_ends_at_its_deadline_also_where_the_pbx_does_not(
    delay: float, begin: bytes, connect: Callable[..., Pbx], storage: Storage
) -> None:
    assert clients.LONGEST_SECONDS == 20
    with RawServer(dripping(begin, delay)) as server:
        client = connect(f"{server.origin}/")
        # Storage may be slow where the machine is busy.
        client._budget = NoBudget(storage, "unlimited")
        began = time.monotonic()
        with pytest.raises(PbxUnavailable):
            client.call("GetLostCalls", lane="action", until=began + 0.8)
        assert time.monotonic() - began < 2
        assert len(server.asked) == 1


def test_a_poll_ends_at_its_deadline_where_each_page_takes_long(
    bridge: Bridge, pbx: Pbx, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert polls.LONGEST == 60
    monkeypatch.setattr(polls, "LONGEST", 1.5)
    simulator.options.page_cap = 1
    for name in "ABCDEFGH":
        simulator.add_contact(name)
    simulator.faults.add("slow", "GetContacts", delay=0.6)
    began = time.monotonic()
    with suppress(PbxUnavailable, BudgetExhausted):
        poll(replace(bridge, pbx=pbx), resource("contacts"))
    assert time.monotonic() - began < 3
    assert 1 < len(simulator.calls_seen("GetContacts")) < 5
    assert checkpoint_of(bridge.storage, "contacts").last_success is None
