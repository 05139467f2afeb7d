"""The PBX's client over real HTTP: what comes back, what each failure says, and what is never done twice."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from dev.simulator import Simulator
from shared.errors import (
    PbxError,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
    PbxUnreachable,
)
from shared.pbx import client as clients
from shared.pbx.budget.budget import Budget
from shared.pbx.budget.ledger import Terms
from shared.pbx.client import Pbx
from shared.pbx.operations import OPERATIONS
from shared.pbx.resources import RESOURCES, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.settings import Settings
    from shared.storage.account import Storage

KEY = "OnYSrLTH3i2qiyb873au2LNdAajXjf5I"
NUMBER = "+37127771153"
LARGEST_ID = 2**63 - 1


class Waits(list[float]):
    """The pauses a client would have made."""


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def connect(settings: Settings, storage: Storage, waits: Waits) -> Callable[..., Pbx]:
    def pbx(base_url: str, key: str = KEY) -> Pbx:
        budget = Budget(storage, uuid.uuid4().hex, terms=Terms(limit=100_000))
        return Pbx(replace(settings, pbx_base_url=base_url, pbx_api_key=key), budget, pause=waits.append)

    return pbx


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY) as simulator:
        yield simulator


@pytest.fixture
def pbx(simulator: Simulator, connect: Callable[..., Pbx]) -> Pbx:
    return connect(simulator.base_url)


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A server with one answer to everything; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v2/"
    finally:
        server.shutdown()
        server.server_close()


def envelope(status: int = 200, data: Any = None, message: str = "") -> bytes:
    return json.dumps({"version": "v2", "status": "x", "statusCode": status, "message": message, "data": data}).encode()


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


@contextmanager
def dripping(
    delay: float, begin: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
) -> Iterator[tuple[str, list[Any]]]:
    """A server that begins an answer and adds a byte every so many seconds; yields its base URL and who came."""
    asked, ended = list[Any](), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(begin)
            while not ended.wait(delay):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    def serve() -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            asked.append(peer)
            threads.append(threading.Thread(target=drip, args=(connection,)))
            threads[-1].start()

    threads = [threading.Thread(target=serve)]
    threads[0].start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/v2/", asked
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join(5)


FAILURES = [
    pytest.param(401, PbxForbidden, id="401"),
    pytest.param(403, PbxForbidden, id="403"),
    pytest.param(404, PbxNotFound, id="404"),
    pytest.param(400, PbxRefused, id="400"),
    pytest.param(422, PbxRefused, id="422"),
    pytest.param(418, PbxRefused, id="418"),
    pytest.param(429, PbxThrottled, id="429"),
    pytest.param(500, PbxUnavailable, id="500"),
    pytest.param(503, PbxUnavailable, id="503"),
    pytest.param(302, PbxNotUnderstood, id="302"),
]


@pytest.mark.parametrize("kind", ["status", "body-status"])
@pytest.mark.parametrize(("status", "error"), FAILURES)
def test_a_status_means_the_same_on_http_and_in_the_body(
    status: int, error: type[PbxError], kind: str, pbx: Pbx, simulator: Simulator
) -> None:
    simulator.faults.add(kind, status=status)
    with pytest.raises(error) as caught:
        pbx.call("GetContactsByID", lane="poll", contact_id=1)
    assert caught.value.operation == "GetContactsByID"
    assert len(simulator.calls_seen()) == (4 if status in (429, 500, 503) else 1)


@pytest.mark.parametrize(
    ("http", "inside", "error"),
    [(404, 200, PbxNotFound), (200, "403", PbxForbidden), (404, 500, PbxUnavailable), (500, 404, PbxUnavailable)],
)
def test_the_worse_of_two_statuses_counts(
    http: int, inside: Any, error: type[PbxError], connect: Callable[..., Pbx]
) -> None:
    with answering(http, envelope(inside, {"contactID": 1})) as url, pytest.raises(error):
        connect(url).call("GetContactsByID", lane="poll", contact_id=1)


def test_a_missing_grant_names_the_method_to_tick(pbx: Pbx, simulator: Simulator) -> None:
    simulator.options.refused.add("GetGroups")
    with pytest.raises(PbxForbidden, match=r"tick the API method GET trigger/groups"):
        pbx.call("GetGroups", lane="poll")


HTML = b"<!doctype html><title>Sign in</title>"
NOT_UNDERSTOOD = [
    pytest.param(200, HTML, id="html"),
    pytest.param(404, HTML, id="html-404"),
    pytest.param(200, b'{"statusCode":200,"data":[{"contactID":1},{"con', id="cut"),
    pytest.param(200, b"", id="empty"),
    pytest.param(200, b"[]", id="bare-list"),
    pytest.param(200, b'{"statusCode":200}', id="no-data"),
    pytest.param(200, b'{"statusCode":200,"data":NaN}', id="nan"),
    pytest.param(200, b"\xff\xfe\x00", id="not-text"),
    pytest.param(200, b"[" * 100_000, id="deep"),
    pytest.param(200, b'{"data":' + b"9" * 5000 + b"}", id="endless-number"),
    pytest.param(200, envelope(data="none"), id="data-is-text"),
    pytest.param(200, envelope(data=[1, 2]), id="data-holds-numbers"),
    pytest.param(200, envelope(data={"contactID": 1}), id="data-is-an-item"),
    pytest.param(200, b" " * (8 * 2**20 + 1), id="oversize"),
    pytest.param(204, b"", id="nothing"),
]


@pytest.mark.parametrize(("status", "body"), NOT_UNDERSTOOD)
def test_what_the_pbx_never_sends_is_not_understood(
    status: int, body: bytes, connect: Callable[..., Pbx], waits: Waits
) -> None:
    with answering(status, body) as url, pytest.raises(PbxNotUnderstood):
        connect(url).call("GetContacts", lane="poll")
    assert waits == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"OK", {"Location": "/api/v2/webhooks/171"}),
        (b"[]", {"Location": "/api/v2/webhooks/171"}),
        (b"171", {}),
        (b'{"id": 171}', {}),
        (b'"171"', {}),
    ],
    ids=["a word", "an empty list", "a number", "an object", "a text"],
)
def test_a_new_webhook_is_known_by_its_id_in_any_wrapping(
    body: bytes, headers: dict[str, str], connect: Callable[..., Pbx]
) -> None:
    with answering(201, body, **headers) as url:
        assert connect(url).subscribe("CallStarted", "https://bridge.example/") == "171"


def test_a_gap_in_a_list_hides_nothing_else(connect: Callable[..., Pbx]) -> None:
    with answering(200, envelope(data=[{"contactID": 1}, None, {"contactID": 2}])) as url:
        assert connect(url).call("GetContacts", lane="poll") == [{"contactID": 1}, {"contactID": 2}]


def test_half_a_character_in_a_name_is_replaced(connect: Callable[..., Pbx]) -> None:
    body = envelope(data=[{"contactID": 1, "firstname": "A\ud83d"}])
    assert b"\\ud83d" in body
    with answering(200, body) as url:
        assert connect(url).call("GetContacts", lane="poll") == [{"contactID": 1, "firstname": "A\ufffd"}]


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity", "9" * 5000], ids=lambda number: number[:9])
def test_a_number_beyond_all_bounds_is_its_text_and_leaves_the_others(number: str, connect: Callable[..., Pbx]) -> None:
    body = envelope(data=[{"contactID": 1, "x": 0}, {"contactID": 2}]).replace(b": 0}", f": {number}}}".encode())
    with answering(200, body) as url:
        found = connect(url).call("GetContacts", lane="poll")
    assert found == [{"contactID": 1, "x": number}, {"contactID": 2}]


def test_a_bomb_is_not_unpacked(connect: Callable[..., Pbx]) -> None:
    body = gzip.compress(b" " * (64 * 2**20))
    with answering(200, body, Content_Encoding="gzip") as url, pytest.raises(PbxNotUnderstood, match="larger"):
        connect(url).call("GetContacts", lane="poll")


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_an_answer_packed_wrongly_is_not_understood(encoding: str, connect: Callable[..., Pbx]) -> None:
    with answering(200, b"\x01\x02\x03", Content_Encoding=encoding) as url, pytest.raises(PbxNotUnderstood):
        connect(url).call("GetContacts", lane="poll")


def test_a_packed_answer_is_unpacked(connect: Callable[..., Pbx]) -> None:
    body = gzip.compress(envelope(data=[{"contactID": LARGEST_ID}]))
    with answering(200, body, Content_Encoding="gzip") as url:
        assert connect(url).call("GetContacts", lane="poll") == [{"contactID": LARGEST_ID}]


@pytest.mark.parametrize("data", [None, [], {}, ""], ids=repr)
def test_an_item_that_is_empty_is_not_found(data: Any, connect: Callable[..., Pbx]) -> None:
    with answering(200, envelope(data=data)) as url, pytest.raises(PbxNotFound):
        connect(url).call("GetContactsByID", lane="poll", contact_id=1)


def test_a_refusal_passes_the_words_on_without_numbers_and_secrets(connect: Callable[..., Pbx]) -> None:
    message = f"limit must be at most 1000; {NUMBER} and 27 771 153 and {KEY} and call 1524664459097344 are wrong"
    with answering(422, envelope(422, message=message)) as url, pytest.raises(PbxRefused) as caught:
        connect(url).call("GetCallHistory", lane="poll", source=NUMBER)
    assert caught.value.remedy == "limit must be at most 1000; … and … and … and call … are wrong"


@pytest.mark.parametrize("message", [None, 5, {"a": 1}, "x" * 100_000], ids=["none", "number", "object", "endless"])
def test_a_refusal_without_usable_words_still_says_something(message: Any, connect: Callable[..., Pbx]) -> None:
    with answering(422, envelope(422, message=message)) as url, pytest.raises(PbxRefused) as caught:
        connect(url).call("GetContacts", lane="poll")
    assert 0 < len(caught.value.remedy) <= 300


RECOVERIES = [
    pytest.param("reset", {}, id="reset"),
    pytest.param("truncated", {}, id="truncated"),
    pytest.param("status", {"status": 500}, id="500"),
    pytest.param("html", {"status": 502}, id="502-page"),
    pytest.param("status", {"status": 429, "retry_after": "7"}, id="429"),
]


@pytest.mark.parametrize(("kind", "fault"), RECOVERIES)
def test_a_read_survives_three_failures(
    kind: str, fault: dict[str, Any], pbx: Pbx, simulator: Simulator, waits: Waits
) -> None:
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
    [
        ("30", 4, 30),
        ("31", 1, 31),
        ("0", 4, 0),
        ("soon", 4, None),
        ("-5", 4, None),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 1, 86400),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 4, 0),
    ],
    ids=["30", "31", "0", "words", "negative", "date", "past-date"],
)
def test_retry_after_is_honoured_up_to_half_a_minute(
    case: tuple[str, int, int | None], pbx: Pbx, simulator: Simulator, waits: Waits
) -> None:
    asked, attempts, expected = case
    simulator.faults.add("status", status=429, retry_after=asked)
    with pytest.raises(PbxThrottled) as caught:
        pbx.call("GetContacts", lane="poll")
    assert caught.value.retry_after == expected
    assert len(simulator.calls_seen()) == attempts
    assert all(wait >= (expected or 0) for wait in waits)


def test_each_attempt_draws_on_the_budget(settings: Settings, storage: Storage, simulator: Simulator) -> None:
    account = uuid.uuid4().hex
    budget = Budget(storage, account, terms=Terms(limit=29, patience=0.1))
    client = Pbx(replace(settings, pbx_base_url=simulator.base_url, pbx_api_key=KEY), budget, pause=lambda _: None)
    simulator.faults.add("status", status=503)
    with pytest.raises(PbxUnavailable):
        client.call("GetContacts", lane="poll")
    with pytest.raises(PbxError) as caught:
        client.call("GetContacts", lane="action")
    assert isinstance(caught.value, PbxUnavailable)
    assert len(simulator.calls_seen()) == 8


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


def test_a_machines_netrc_and_proxies_are_not_asked(
    pbx: Pbx, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    simulator.add_contact("Anna")
    assert len(pbx.call("GetContacts", lane="poll")) == 1


LOCATIONS = [
    pytest.param("https://pbx.example/api/v2/webhooks/4711", None, "4711", id="absolute"),
    pytest.param("/api/v2/webhooks/4711/", None, "4711", id="relative"),
    pytest.param("4711", None, "4711", id="bare"),
    pytest.param("https://pbx.example/api/v2/webhooks/", 4711, "4711", id="no-id-in-location"),
    pytest.param("https://pbx.example/api/v2/webhooks/12", 4711, "12", id="location-first"),
    pytest.param("/api/v2/webhooks/CallStarted/12", None, "12", id="event-in-location"),
    pytest.param("/api/v2/webhooks/CallStarted", 4711, "4711", id="location-of-the-request"),
    pytest.param("/api/v2/webhooks/CallStarted", None, None, id="no-id-anywhere"),
    pytest.param(None, 4711, "4711", id="number"),
    pytest.param(None, LARGEST_ID, str(LARGEST_ID), id="large-number"),
    pytest.param(None, "4711", "4711", id="text"),
    pytest.param(None, "a1b2-c3", "a1b2-c3", id="hexadecimal"),
    pytest.param(None, "/webhooks/4711", "4711", id="path"),
    pytest.param(None, {"webhook_id": 4711}, "4711", id="object"),
    pytest.param(None, {"endpoint": "http://x/webhooks/1", "webhookID": "4711"}, "4711", id="object-and-endpoint"),
    pytest.param(None, {"webhook": {"id": 4711}}, "4711", id="nested"),
    pytest.param(None, [{"ID": 4711}], "4711", id="list"),
    pytest.param(None, None, None, id="nothing"),
    pytest.param(None, "created", None, id="word"),
    pytest.param(None, "Webhook 3 of 20 created", None, id="words"),
    pytest.param(None, True, None, id="flag"),
    pytest.param(None, {"count": 3}, None, id="other-number"),
    pytest.param(None, [1, 2], None, id="several"),
]


@pytest.mark.parametrize(("location", "data", "id"), LOCATIONS)
def test_a_webhooks_id_is_found_wherever_the_pbx_puts_it(
    location: str | None, data: Any, id: str | None, connect: Callable[..., Pbx]
) -> None:
    headers = {"Location": location} if location else {}
    with answering(201, envelope(201, data), **headers) as url:
        assert connect(url).subscribe("CallStarted", "https://app.example/api/events/CallStarted?code=x") == id


def test_an_answer_without_a_body_is_enough_for_a_subscription(connect: Callable[..., Pbx]) -> None:
    with answering(201, b"", Location="/api/v2/webhooks/5") as url:
        assert connect(url).subscribe("CallStarted", "https://app.example/x") == "5"


def test_a_webhook_is_made_and_deleted_and_may_be_gone_already(pbx: Pbx, simulator: Simulator) -> None:
    id = pbx.subscribe("CallRecorded", "http://127.0.0.1:9/x")
    assert [(hook.event, str(hook.id)) for hook in simulator.webhooks] == [("CallRecorded", id)]
    assert id
    pbx.unsubscribe(id)
    pbx.unsubscribe(id)
    assert simulator.webhooks == []


def test_the_cap_of_webhooks_is_a_refusal_in_the_pbxs_words(pbx: Pbx, simulator: Simulator) -> None:
    simulator.options.webhook_cap = 0
    with pytest.raises(PbxRefused, match="no more than 0 webhooks"):
        pbx.subscribe("CallRecorded", "http://127.0.0.1:9/secret?code=abc")


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


def test_the_key_is_sent_once_with_the_word_bearer(pbx: Pbx) -> None:
    assert pbx.headers() == {"Authorization": f"Bearer {KEY}"}


def test_connections_are_reused(connect: Callable[..., Pbx]) -> None:
    peers: set[Any] = set()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        body = envelope(data=[])
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            peers.add(peer)
            with connection, connection.makefile("rb") as stream:
                while (line := stream.readline()).strip():
                    while stream.readline().strip():
                        continue
                    assert line.startswith(b"GET /api/v2/trigger/contacts")
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    thread = threading.Thread(target=serve)
    thread.start()
    client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}/api/v2/")
    for _ in range(5):
        client.call("GetContacts", lane="poll")
    client._session.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)
    assert len(peers) == 1


@pytest.mark.parametrize(("lane", "attempts"), [("action", 1), ("poll", 4)])
def test_who_waits_for_an_action_is_not_kept_for_long(lane: str, attempts: int, pbx: Pbx, simulator: Simulator) -> None:
    simulator.faults.add("status", status=503, retry_after="25")
    with pytest.raises(PbxUnavailable):
        pbx.call("GetContacts", lane=lane)
    assert len(simulator.calls_seen()) == attempts


@pytest.mark.slow
@pytest.mark.parametrize("delay", [30.0, 0.3], ids=["a PBX that hangs", "a PBX that drips"])
@pytest.mark.parametrize(
    "begin",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 "],
    ids=["in the body", "in a header", "in the status"],
)
def test_an_action_ends_at_its_deadline_also_where_the_pbx_does_not(
    delay: float, begin: bytes, connect: Callable[..., Pbx], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_PATIENCE", {"action": (1.0, 3.0)})
    monkeypatch.setattr(clients, "_LONGEST_BUDGET_WAIT", 0.2)
    monkeypatch.setattr(clients, "_SHORTEST_ATTEMPT", 0.1)
    with dripping(delay, begin) as (url, asked):
        began = time.monotonic()
        with pytest.raises(PbxUnavailable):
            connect(url).call("GetLostCalls", lane="action")
        assert time.monotonic() - began < 3.5
        assert 1 <= len(asked) <= 3


def test_an_action_has_twenty_seconds() -> None:
    assert clients._PATIENCE["action"][1] == 20
