"""The page behind the host's HTTP trigger: paths, cookies, errors, sign-in, and wrong keys over all instances."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest

from board import access
from board.app import create_app
from dev.counting import counted
from dev.simulator import Simulator
from dev.stored import put as put_items
from functions.board import serve_page
from shared import people
from shared.bridge import Bridge
from shared.calls import lost_callers
from shared.pbx.resources import LOST_CALLS, RESOURCES
from shared.polling.poll import poll, poll_lost_calls
from shared.settings import Settings
from shared.storage import rows
from shared.storage.rows import descending
from shared.subscriptions import Subscription, subscriptions
from shared.times import iso, now
from tests.events import received
from tests.polls import bridge_to

if TYPE_CHECKING:
    from flask import Flask

PAGES = (
    "/",
    "/callbacks/",
    "/calls",
    "/calls?q=29410003",
    "/voicemails",
    "/voicemails?q=29410003",
    "/workings/",
    "/workings/queues",
    "/workings/subscriptions",
    "/person/",
)
BASE = "https://bridge.example/api/board"
KEY = "a-key-of-the-page"
SEALING = base64.b64encode(bytes(32)).decode()


class Reader:
    """A browser as the host passes it on: it keeps cookies, and follows nothing."""

    def __init__(self, app: Flask) -> None:
        self.app, self.cookies = app, dict[str, str]()

    def ask(self, path: str, method: str = "GET", body: str = "", **headers: str) -> func.HttpResponse:
        sent = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "Host": "bridge.example",
        }
        sent |= {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        request = func.HttpRequest(method, BASE + path, headers=sent | headers, body=body.encode())
        answer = serve_page(self.app, request)
        for cookie in answer.headers.get_all("Set-Cookie"):  # type: ignore[attr-defined]
            name, _, rest = cookie.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return answer

    def sign_in(self, key: str = KEY, **fields: str) -> func.HttpResponse:
        return self.ask("/sign-in", "POST", "&".join(f"{name}={text}" for name, text in {"key": key, **fields}.items()))


def text(answer: func.HttpResponse) -> str:
    return answer.get_body().decode()


@pytest.fixture
def start(start_bridge: Callable[..., Bridge]) -> Callable[..., Reader]:
    """Start another instance, with the same storage and settings."""

    def make(**changes: Any) -> Reader:
        bridge = start_bridge()
        bridge.storage.ready()
        settings = replace(
            bridge.settings,
            **({"board_key": KEY, "board_admin_key": "another-key", "subscription_keys": (SEALING,)} | changes),
        )
        return Reader(create_app(replace(bridge, settings=settings)))

    return make


def test_nobody_sees_anything_without_signing_in(start: Callable[..., Reader]) -> None:
    reader = start()
    for path in ("/", "/calls", "/audio/recordings/2026/01/01/1.mp3", "/nowhere"):
        answer = reader.ask(path)
        assert (answer.status_code, answer.headers["Location"]) == (302, f"/api/board/sign-in?next=/api/board{path}")
    assert reader.sign_in("wrong").status_code == 403
    assert reader.ask("/").status_code == 302


def test_a_key_signs_in_until_it_is_changed(start: Callable[..., Reader]) -> None:
    reader = start()
    answer = reader.sign_in(next="/api/board/calls?q=2655")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/api/board/calls?q=2655")
    cookie = answer.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/api/board"))
    assert reader.ask("/calls").status_code == 200
    other = start(board_key="a-new-key-of-the-page")
    other.cookies = reader.cookies
    assert other.ask("/calls").status_code == 302


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_sign_in_redirects_to_the_page_only(start: Callable[..., Reader], address: str) -> None:
    assert start().sign_in(next=address).headers["Location"] == "/api/board/"


def test_after_ten_wrong_keys_a_minute_every_instance_refuses(
    start: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = start(), start()
    statuses = [reader.sign_in("wrong").status_code for reader in (one, other) * 5]
    assert statuses == [403] * 10
    answer = one.sign_in()
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
    later = access.now()
    monkeypatch.setattr(access, "now", lambda: later + timedelta(seconds=61))
    assert other.sign_in().status_code == 303


def test_right_keys_are_not_counted(start: Callable[..., Reader]) -> None:
    assert {start().sign_in().status_code for _ in range(12)} == {303}


def test_an_address_signs_in_once(start: Callable[..., Reader]) -> None:
    reader, other = start(), start()
    token = access.once_token(reader.app.extensions["bridge"].settings)
    assert reader.ask(f"/enter/{token}", "HEAD").status_code == 403
    assert reader.ask(f"/enter/{token}").status_code == 303
    assert reader.ask("/calls").status_code == 200
    assert other.ask(f"/enter/{token}").status_code == 403
    assert other.ask(f"/enter/{token[:-2]}xx").status_code == 403
    assert other.ask("/calls").status_code == 302


def test_the_platforms_header_counts_only_where_the_template_says_so(start: Callable[..., Reader]) -> None:
    header = {"X-MS-CLIENT-PRINCIPAL-NAME": "anna@example.com"}
    assert start().ask("/calls", **header).status_code == 302
    platform = start(board_sign_in="entra")
    assert platform.ask("/calls", **header).status_code == 200
    assert platform.ask("/calls").headers["Location"].startswith("/.auth/login/aad?")
    assert start(board_sign_in="none").sign_in().status_code == 404


def test_without_a_key_nobody_signs_in(start: Callable[..., Reader]) -> None:
    reader = start(board_key="")
    assert reader.sign_in("").status_code == 403
    assert "BOARD_KEY" in text(reader.ask("/sign-in"))
    assert reader.ask("/calls").status_code == 302


def test_a_form_from_elsewhere_changes_nothing(start: Callable[..., Reader]) -> None:
    reader = start()
    reader.sign_in()
    assert reader.ask("/sign-out", "POST", "csrf_token=x").status_code == 400
    token = re.findall(r'name="csrf_token" value="([^"]+)"', text(reader.ask("/calls")))[0]
    assert reader.ask("/sign-out", "POST", f"csrf_token={token}").status_code == 303
    assert reader.ask("/calls").status_code == 302


def test_every_request_of_the_host_becomes_an_answer(start: Callable[..., Reader]) -> None:
    reader = start()
    reader.sign_in()
    assert reader.ask("").status_code == 200
    assert reader.ask("/n%C4%93kas%2Fx").status_code == 404
    assert reader.ask("/calls?q=%C5%BDanis").status_code == 200
    head = reader.ask("/calls", "HEAD")
    assert (head.status_code, head.get_body()) == (200, b"")
    assert reader.ask("/calls", "POST", "a=b").status_code in (400, 405)
    answer = reader.ask("/calls")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son[a-z]+=", text(answer))


def test_a_replay_from_no_day_is_counted_from_today(start: Callable[..., Reader]) -> None:
    reader = start()
    one = subscriptions(reader.app.extensions["bridge"]).make(
        Subscription.new(event="CallCompleted", endpoint="https://flow.example/hook", name="CRM")
    )
    reader.sign_in()
    answer = reader.ask(f"/workings/subscriptions/{one.id}/replay?since=yesterday")
    assert (answer.status_code, "CRM · CallCompleted" in text(answer)) == (200, True)


def test_a_fault_of_ours_is_a_page_too(start: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    reader = start()
    reader.sign_in()
    monkeypatch.setattr("board.calls._search", lambda *names: 1 / 0)
    for _ in range(2):
        answer = reader.ask("/calls")
        assert answer.status_code == 500
        assert "ZeroDivision" not in text(answer)


def test_the_language_is_the_browsers_until_it_is_switched(start: Callable[..., Reader]) -> None:
    reader = start()
    assert '<html lang="lv">' in text(reader.ask("/sign-in", **{"Accept-Language": "lv-LV,lv;q=0.9,en;q=0.5"}))
    assert '<html lang="en">' in text(reader.ask("/sign-in", **{"Accept-Language": "de"}))
    answer = reader.ask("/language/lv?next=/api/board/calls")
    assert answer.headers["Location"] == "/api/board/calls"
    assert '<html lang="lv">' in text(reader.ask("/sign-in", **{"Accept-Language": "en"}))


def test_a_page_costs_twelve_requests_at_most_also_after_ten_years(start: Callable[..., Reader]) -> None:
    bridge: Bridge = start().app.extensions["bridge"]
    for number in range(20):
        subscriptions(bridge).make(Subscription.new(event="CallCompleted", endpoint=f"https://flow.example/{number}"))
        caller = f"+371295100{number:02d}"
        lost_callers.identified(bridge, received("LostCallerAdded", callerid=caller, destination="67000123"))
    fill(bridge, 500, timedelta(days=27))
    month = costs(start)
    fill(bridge, 2500, timedelta(days=3650))
    for path, (count, size) in costs(start).items():
        # The calls of one number lie further apart then: ten of them at most are ten requests.
        assert count <= (12 if "?q=" in path else month[path][0]) <= 12, path
        assert size <= max(1.5 * month[path][1], 64 * 1024), path


@pytest.mark.parametrize(
    ("size", "asked", "answered"),
    [(2000, "", (200, 2000)), (6 << 20, "", (206, 4 << 20)), (6 << 20, "bytes=5-", (206, 4 << 20))],
)
def test_audio_comes_in_parts(start: Callable[..., Reader], size: int, asked: str, answered: tuple[int, int]) -> None:
    reader, name = start(), "2026/01/01/1.mp3"
    reader.app.extensions["bridge"].storage.container("recordings").upload_blob(name, bytes(size))
    reader.sign_in()
    headers = {"Range": asked} if asked else {}
    answer = reader.ask(f"/audio/recordings/{name}", **headers)
    assert (answer.status_code, len(answer.get_body())) == answered
    assert answer.headers["Content-Length"] == str(answered[1])
    assert len(reader.ask(f"/audio/recordings/{name}?download").get_body()) == size


def test_the_workings_show_every_poll_and_its_method(start: Callable[..., Reader], settings: Settings) -> None:
    reader = start()
    with Simulator() as pbx:
        bridge = bridge_to(pbx, settings)
        for resource in RESOURCES:
            poll(bridge, resource)
        poll_lost_calls(bridge)
    reader.sign_in()
    answer = reader.ask("/workings/")
    assert answer.status_code == 200
    for resource in (*RESOURCES, LOST_CALLS):
        assert f"<td>{resource.name.replace('_', ' ')}</td>" in text(answer)
        assert f"<li>{resource.list_operation} " in text(answer)


def costs(start: Callable[..., Reader]) -> dict[str, tuple[int, int]]:
    """Return the requests and bytes of each page in a process that has read nothing yet."""
    found = {}
    for path in PAGES:
        reader = start()
        reader.sign_in()
        requests = counted(reader.app.extensions["bridge"].storage)
        assert reader.ask(path).status_code == 200
        found[path] = (requests.count, requests.received)
    return found


def fill(bridge: Bridge, count: int, span: timedelta) -> None:
    """Store calls and voicemails of twenty callers, evenly over the span of time before now."""
    calls, numbers, voicemails, end = [], [], [], now() - timedelta(minutes=5)
    for number in range(count):
        began, caller = end - span * number / count, f"+371294100{number % 20:02d}"
        id = int(began.timestamp() * 1_000_000) + count
        columns = {"callID": rows.long(id), "outcome": "missed", "direction": "in", "caller": caller}
        calls.append({"PartitionKey": "call", "RowKey": descending(id), "started": began, "began": began, **columns})
        numbers.append((people.number(caller, "LV"), people.Pointer("call", str(id), began)))
        voicemails.append({"voicemailID": id, "callStarted": iso(began), "sender": caller, "length": 9})
    people.add(bridge.storage, numbers)
    for first in range(0, count, 100):
        bridge.storage.table("calls").submit_transaction([("upsert", row) for row in calls[first : first + 100]])
    put_items(bridge.storage, "voicemails", *voicemails)
