"""The host's HTTP side, over real sockets."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest
import requests

from dev.processes import HostProcess
from tests.hosts import MASTER

ADMIN = {"x-functions-key": MASTER}


def asked(host: HostProcess, *lines: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Return the answer to a request that is written byte by byte: its status, headers in lower case, and body."""
    with socket.create_connection((urlsplit(host.url).hostname, urlsplit(host.url).port), timeout=10) as raw:
        raw.sendall("\r\n".join((*lines, "Connection: close", "", "")).encode("latin-1") + body)
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def got(host: HostProcess, target: str) -> tuple[int, dict[str, str], bytes]:
    """Return the answer to a GET whose path no client library has touched."""
    return asked(host, f"GET {target} HTTP/1.1", f"Host: {urlsplit(host.url).netloc}")


def test_a_request_reaches_the_function(plain: HostProcess) -> None:
    url = f"{plain.url}/api/echo/12/a%20b?x=1&sp=a+b"
    seen = requests.post(url, data=b"\xff\x00", headers={"X-Thing": "Žanis".encode()}).json()
    assert seen["method"] == "POST"
    assert seen["url"] == url
    assert seen["params"] == {"id": "12", "rest": "a b"}
    assert seen["query"] == {"x": "1", "sp": "a b"}
    assert seen["headers"]["x-thing"] == "Žanis"
    assert base64.b64decode(seen["body"]) == b"\xff\x00"


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("x=1&X=2", {"X": "1,2"}),
        ("x=&x=1&y", {"x": "1"}),
        ("a=%FF&b=%C5%BE%FF%41", {"a": "%FF", "b": "ž%FFA"}),
        ("a%20b=1+2%2B3", {"a b": "1 2+3"}),
    ],
)
def test_the_query_is_read_as_the_real_host_reads_it(plain: HostProcess, query: str, seen: dict[str, str]) -> None:
    _, _, body = got(plain, f"/api/anything?{query}")
    assert json.loads(body)["query"] == seen
    assert json.loads(body)["url"] == f"{plain.url}/api/anything?{query}"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/api/%61nything", "/api/anything"),
        ("/api/files/a%2fb%c5%be", "/api/files/a%2fb%C5%BE"),
        ("/api/nowhere/./%2e%2e/anything", "/api/anything"),
        ("/api/files/.a/%2525%FF/b..", "/api/files/.a/%25%FF/b.."),
        ("http://other.example/api/anything", "/api/anything"),
    ],
)
def test_a_path_is_decoded_and_normalised_before_routing(plain: HostProcess, target: str, path: str) -> None:
    status, _, body = got(plain, target)
    assert status == 200
    assert json.loads(body)["url"] == plain.url + path


def test_a_path_that_the_real_host_refuses_is_refused(plain: HostProcess) -> None:
    refused = ("//api/anything", "/api//anything", "/api/anything//", "/api/files//a", "/api/anything/..")
    assert {got(plain, target)[0] for target in refused} == {404}
    assert {got(plain, target)[0] for target in ("/api/files/a%00b", "/%00", "/api/any\xff")} == {400}
    assert {got(plain, target)[0] for target in ("/api/anything/", "/api/files/a//b")} == {200}


@pytest.mark.parametrize(
    ("hosts", "status"),
    [(["[::1]:80"], 200), ([""], 500), ([], 400), (["a", "b"], 400), (["a b"], 400), (["a.example:8x"], 400)],
)
def test_an_invalid_host_header_is_refused(plain: HostProcess, hosts: list[str], status: int) -> None:
    assert asked(plain, "GET /api/text HTTP/1.1", *(f"Host: {host}" for host in hosts))[0] == status


def test_routes_answer_as_the_real_host(plain: HostProcess) -> None:
    answers = {
        200: ("GET /API/Echo/-3/", "HEAD /api/anything", "GET /api/files", "GET /"),
        404: ("GET /api/echo/1/2/3", "PUT /api/echo/12", "HEAD /api/echo/12", "OPTIONS /api/echo/12", "GET /api/work"),
    }
    for status, asked in answers.items():
        for method, path in (each.split() for each in asked):
            assert requests.request(method, plain.url + path).status_code == status, path
    for path in ("code/abcde", "code/beginning", "echo/twelve", "nowhere"):
        answer = requests.get(f"{plain.url}/api/{path}")
        assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (404, b"", "0")
        assert "Content-Type" not in answer.headers


def test_the_first_route_in_order_of_names_wins(plain: HostProcess) -> None:
    wins = {"order/literal": "first", "order/other": "first", "code/abcd": "code", "code/begin": "word"}
    assert {path: requests.get(f"{plain.url}/api/{path}").text for path in wins} == wins


def test_an_answer_reaches_the_caller_unchanged(plain: HostProcess) -> None:
    answer = requests.get(f"{plain.url}/api/reply")
    assert answer.status_code == 201
    assert answer.content == bytes(range(256))
    assert answer.headers["Content-Type"] == "audio/mpeg"
    assert answer.headers["X-One"] == "1"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers
    assert answer.raw.headers.getlist("set-cookie") == [
        "a=1; HttpOnly; Path=/; domain=",
        "b=2; Max-Age=60; SameSite=Lax; Secure; domain=; path=",
    ]


def test_a_functions_own_content_length_goes_out_as_it_is(plain: HostProcess) -> None:
    answer = requests.get(f"{plain.url}/api/part")
    assert (answer.status_code, answer.content) == (206, b"cd")
    assert (answer.headers["Content-Length"], answer.headers["Content-Range"]) == ("2", "bytes 2-3/10")
    assert answer.headers["ETag"] == '"e"'
    assert "Transfer-Encoding" not in answer.headers


def test_returned_values_and_exceptions_become_answers(plain: HostProcess) -> None:
    answers = {"empty": (204, ""), "text": (200, "plain"), "later": (200, "later"), "boom": (500, "")}
    for path, expected in answers.items():
        answer = requests.get(f"{plain.url}/api/{path}")
        assert (answer.status_code, answer.text) == expected


def test_a_connection_carries_many_requests(plain: HostProcess) -> None:
    connection = http.client.HTTPConnection(urlsplit(plain.url).netloc)
    connection.connect()
    first = connection.sock
    for path in ("/api/text", "/nowhere", "/api/boom", "/api/empty", "/api/text"):
        connection.request("GET", path)
        connection.getresponse().read()
        connection.request("POST", "/api/echo/1", iter([b"x" * 100_000]), encode_chunked=True)
        assert json.loads(connection.getresponse().read())["body"] == ""
        assert connection.sock is first
    connection.close()


def test_a_body_in_chunks_arrives_empty_but_its_header_arrives(plain: HostProcess) -> None:
    seen = requests.post(f"{plain.url}/api/echo/1", data=iter([b"x" * 2_000_000])).json()
    assert seen["body"] == ""
    assert seen["headers"]["transfer-encoding"] == "chunked"
    assert "content-length" not in seen["headers"]


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("POST /api/size", ["Content-Length: 104857601"], 500),
        # `Host` and `Connection` are two more.
        ("GET /api/text", [f"x-{number}: 1" for number in range(98)], 200),
        ("GET /api/text", [f"x-{number}: 1" for number in range(99)], 431),
        ("GET /api/text", [f"x-{name}: {'x' * 15_000}" for name in "ab"], 200),
        ("GET /api/text", [f"x-{name}: {'x' * 16_500}" for name in "ab"], 431),
        (f"GET /api/text?x={'1' * (8192 - 27)}", [], 200),
        (f"GET /api/text?x={'1' * (8193 - 27)}", [], 414),
    ],
    ids=["body", "headers", "more headers", "long headers", "longer headers", "line", "longer line"],
)
def test_a_request_over_the_hosts_limits_is_refused(
    plain: HostProcess, line: str, headers: list[str], status: int
) -> None:
    assert asked(plain, f"{line} HTTP/1.1", f"Host: {urlsplit(plain.url).netloc}", *headers)[0] == status


def test_admin_lists_functions_and_disabled_ones(plain: HostProcess) -> None:
    listed = {entry["name"]: entry for entry in requests.get(f"{plain.url}/admin/functions", headers=ADMIN).json()}
    assert {name for name, entry in listed.items() if entry["isDisabled"]} >= {"work", "poisoned", "asleep", "tick"}
    assert listed["tick"]["config"]["bindings"][0]["type"] == "timerTrigger"
    assert requests.get(f"{plain.url}/admin/host/status", headers=ADMIN).json()["state"] == "Running"
    for method in ("GET", "POST"):
        ping = requests.request(method, f"{plain.url}/admin/host/ping")
        assert (ping.status_code, ping.content, ping.headers["Cache-Control"]) == (200, b"", "no-store,no-cache")


@pytest.mark.parametrize(
    ("path", "body", "content_type", "status"),
    [
        ("nothing", "{}", "application/json", 404),
        ("echo", '{"input": ""}', "application/json", 202),
        ("tick", "{}", "text/plain", 415),
        ("tick", "not json", "application/json", 400),
        ("tick", '{"input": {}}', "application/json", 400),
        ("tick", "[" * 100_000, "application/json", 400),
        ("work", '{"input": "\\ud800"}', "application/json; charset=utf-8", 202),
        ("work", '{"input": null}', "text/json", 202),
    ],
)
def test_a_run_by_hand_wants_json(
    plain: HostProcess, path: str, body: str, content_type: str | None, status: int
) -> None:
    headers = ADMIN | ({"Content-Type": content_type} if content_type else {})
    assert requests.post(f"{plain.url}/admin/functions/{path}", data=body, headers=headers).status_code == status
