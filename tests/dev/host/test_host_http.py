"""The host's HTTP side, over real sockets."""

from __future__ import annotations

import base64
import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

if TYPE_CHECKING:
    from dev.host.process import HostProcess

GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def test_a_request_reaches_the_function_as_it_was_sent(plain: HostProcess) -> None:
    url = f"{plain.url}/api/echo/12/a%20b?x=1&X=2&empty=&sp=a+b"
    seen = requests.post(url, data=b"\xff\x00", headers={"X-Thing": "Žanis".encode()}).json()
    assert seen["method"] == "POST"
    assert seen["url"] == url
    assert seen["params"] == {"id": "12", "rest": "a b"}
    assert seen["query"] == {"x": "1,2", "sp": "a b"}
    assert seen["headers"]["x-thing"] == "Žanis"
    assert base64.b64decode(seen["body"]) == b"\xff\x00"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/echo/12", 200),
        ("GET", "/API/Echo/12/", 200),
        ("GET", "/api/echo/-3", 200),
        ("GET", "/api/echo/twelve", 404),
        ("GET", "/api/echo/99999999999", 404),
        ("GET", "/api/echo/1/2/3", 404),
        ("GET", "/api/echo", 404),
        ("PUT", "/api/echo/12", 404),
        ("HEAD", "/api/echo/12", 404),
        ("OPTIONS", "/api/echo/12", 404),
        ("HEAD", "/api/anything", 200),
        ("OPTIONS", "/api/anything", 200),
        ("GET", f"/api/things/{GUID}", 200),
        ("GET", "/api/things/1", 404),
        ("GET", "/api/files", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/api/work", 404),
        ("GET", "/", 200),
    ],
)
def test_routes_answer_as_the_real_host(plain: HostProcess, method: str, path: str, status: int) -> None:
    assert requests.request(method, plain.url + path).status_code == status


@pytest.mark.parametrize(
    ("path", "params"),
    [("a/b/c.mp3", {"path": "a/b/c.mp3"}), ("", {}), ("%C5%BE/x%2Fy", {"path": "ž/x%2Fy"})],
    ids=["many", "none", "encoded"],
)
def test_a_catch_all_takes_the_rest(plain: HostProcess, path: str, params: dict[str, str]) -> None:
    assert requests.get(f"{plain.url}/api/files/{path}").json()["params"] == params


def test_a_literal_route_goes_before_a_parameter(plain: HostProcess) -> None:
    assert requests.get(f"{plain.url}/api/echo/fixed").text == "fixed"


def test_an_answer_reaches_the_caller_as_it_was_returned(plain: HostProcess) -> None:
    answer = requests.get(f"{plain.url}/api/reply")
    assert answer.status_code == 201
    assert answer.content == bytes(range(256))
    assert answer.headers["Content-Type"] == "audio/mpeg"
    assert answer.headers["X-One"] == "1"
    assert answer.raw.headers.getlist("set-cookie") == [
        "a=1; path=/; httponly",
        "b=2; max-age=60; secure; samesite=lax",
    ]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("empty", 204, ""), ("text", 200, "plain"), ("later", 200, "later"), ("boom", 500, "")],
)
def test_what_a_function_returns_or_raises_is_the_answer(plain: HostProcess, path: str, status: int, body: str) -> None:
    answer = requests.get(f"{plain.url}/api/{path}")
    assert (answer.status_code, answer.text) == (status, body)


def test_lines_of_the_log_name_their_function(plain: HostProcess) -> None:
    for path in ("echo/1", "later", "boom"):
        requests.get(f"{plain.url}/api/{path}")
    for line in ("INFO [echo] echoing 1", "WARNING [later] from a coroutine", "ValueError: a secret reason"):
        plain.wait_for(lambda output, line=line: line in output, 5)


def test_a_connection_carries_many_requests(plain: HostProcess) -> None:
    connection = http.client.HTTPConnection(urlsplit(plain.url).netloc)
    connection.connect()
    first = connection.sock
    for path in ("/api/text", "/nowhere", "/api/boom", "/api/empty", "/api/text"):
        connection.request("GET", path)
        connection.getresponse().read()
        assert connection.sock is first
    connection.close()


def test_small_answers_do_not_wait_for_an_acknowledgement(plain: HostProcess) -> None:
    session = requests.Session()
    # With Nagle's delay every one of them would take 40 ms.
    assert min(session.get(f"{plain.url}/api/text").elapsed.total_seconds() for _ in range(20)) < 0.03
    session.close()


def test_requests_run_side_by_side(plain: HostProcess) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: requests.get(f"{plain.url}/api/slow/0.5").status_code, range(8)))
    assert answers == [200] * 8
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "chunked"])
def test_large_bodies_arrive_whole(plain: HostProcess, chunked: bool) -> None:
    body = b"x" * 20_000_000
    assert requests.post(f"{plain.url}/api/size", data=iter([body]) if chunked else body).text == str(len(body))


def test_a_body_over_azures_limit_is_refused_unread(plain: HostProcess) -> None:
    connection = http.client.HTTPConnection(urlsplit(plain.url).netloc)
    connection.putrequest("POST", "/api/size")
    connection.putheader("Content-Length", str(211 * 1024 * 1024))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_half_a_body_is_no_request(plain: HostProcess) -> None:
    connection = http.client.HTTPConnection(urlsplit(plain.url).netloc)
    connection.putrequest("POST", "/api/echo/777")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"half")
    connection.close()
    requests.get(f"{plain.url}/api/echo/778")
    output = plain.wait_for(lambda output: "echoing 778" in output, 5)
    assert "echoing 777" not in output


def test_admin_lists_the_functions(plain: HostProcess) -> None:
    listed = {entry["name"]: entry for entry in requests.get(f"{plain.url}/admin/functions").json()}
    assert listed["work"]["isDisabled"]
    assert listed["echo"]["invoke_url_template"] == f"{plain.url}/api/echo/{{id:int}}/{{rest?}}"
    assert listed["tick"]["config"]["bindings"][0]["type"] == "timerTrigger"
    assert requests.get(f"{plain.url}/admin/host/status").json()["state"] == "Running"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("nothing", "{}", 404), ("echo", '{"input": ""}', 400), ("tick", "not json", 400), ("tick", "[]", 400)],
)
def test_admin_refuses_what_it_cannot_run(plain: HostProcess, path: str, body: str, status: int) -> None:
    assert requests.post(f"{plain.url}/admin/functions/{path}", data=body).status_code == status


def test_the_start_tells_every_function(plain: HostProcess) -> None:
    for line in ("echo: [GET,POST] http", "work: disabled", "dead_letter: disabled", "tick: timer 0 0 0 1 1 *"):
        assert line in plain.output
    assert json.dumps(plain.output).count("Host is ready on") == 1
