"""Subscribing, receiving, replays and unsubscribing, over HTTP through a real host."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from dev.listener import Listener
from dev.server import Request
from dev.signatures import verify
from shared.events.table import EVENTS
from shared.subscriptions import Subscriptions, new_secret
from shared.times import iso, now
from tests.apps import KEY, MASTER, RunningApp
from tests.waiting import until

if TYPE_CHECKING:
    import requests

pytestmark = pytest.mark.xdist_group("shared_bridge")
NOWHERE = "http://127.0.0.1:9/"
WAYS_IN = ("LostCallerAdded", "lostcallercreated", "RecordingStoredEvent")
WAYS_OUT = ("Location", "UNSUBSCRIBE")
_calls = itertools.count(1524664459500000)


@pytest.fixture(scope="module")
def running(shared_bridge: RunningApp) -> RunningApp:
    return shared_bridge


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.fixture(autouse=True)
def alone(running: RunningApp) -> Iterator[None]:
    """End the subscriptions of a test before the next one."""
    yield
    for one in Subscriptions(running.storage).all():
        running.ask("DELETE", f"/api/v2/webhooks/{one.capability}")


def listed(running: RunningApp) -> dict[str, dict[str, Any]]:
    """The subscriptions by their public ids."""
    return {row["id"]: row for row in running.ask("GET", "/api/v2/subscriptions").json()["data"]}


def ask(running: RunningApp, id: str, what: str, **options: Any) -> requests.Response:
    """Send a request with the master key."""
    return running.ask("POST", f"/api/ops/subscriptions/{id}/{what}", key=MASTER, **options)


def id_of(running: RunningApp, event: str, endpoint: str, **more: Any) -> str:
    """The public id of a new subscription."""
    made = running.ask("POST", f"/api/v2/webhooks/{event}", json={"endpoint": endpoint, **more})
    return made.headers["Subscription-Id"]


def test_an_event_is_delivered_signed_and_unchanged(running: RunningApp, listener: Listener) -> None:
    made = running.ask("POST", "/api/v2/webhooks/CallCompleted", json={"endpoint": listener.url})
    assert made.status_code == 201
    body = made.json()
    assert body.keys() == {"version", "status", "statusCode", "message", "data", "secret"}
    assert (body["statusCode"], body["status"]) == (201, "success")
    assert made.headers["Location"] == f"{running.url}/api/v2/webhooks/{body['data']}"
    id = running.happen("CallCompleted", remark="kept")
    (delivery,) = listener.wait(1)
    verify(delivery.headers, delivery.body, [body["secret"]], time.time())
    assert delivery.id == id
    assert delivery.headers["content-type"] == "application/json"
    body = delivery.json()
    assert body.keys() == {"type", "eventType", "version", "data"}
    assert (body["eventType"], body["data"]["remark"]) == ("CallCompleted", "kept")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_every_event_can_be_subscribed_to_and_left_without_a_key(event: Any, running: RunningApp) -> None:
    made = running.ask("POST", f"/api/v2/webhooks/{event.name}", json={"endpoint": NOWHERE})
    assert made.status_code == 201
    for _ in range(2):
        left = running.ask("DELETE", made.headers["Location"], key="")
        assert (left.status_code, left.json()["data"]) == (200, None)
    assert listed(running) == {}


@pytest.mark.parametrize("name", ["CallParked", "un-subscribe", "unsubscribe%20"])
def test_an_unknown_event_is_404(name: str, running: RunningApp) -> None:
    answer = running.ask("POST", f"/api/v2/webhooks/{name}", json={"endpoint": NOWHERE})
    assert (answer.status_code, answer.json()["statusCode"]) == (404, 404)


@pytest.mark.parametrize("way_out", WAYS_OUT)
@pytest.mark.parametrize("way_in", WAYS_IN)
def test_a_subscription_made_each_way_can_be_ended_each_way(way_in: str, way_out: str, running: RunningApp) -> None:
    endpoint = "http://127.0.0.1:9/a%20b?sig=%2B"
    made = running.ask("POST", f"/api/v2/webhooks/{way_in}", json={"endpoint": endpoint})
    assert made.status_code == 201
    if way_out == "Location":
        left = running.ask("DELETE", made.headers["Location"], key="")
    else:
        left = running.ask("POST", f"/api/v2/webhooks/{way_out}", json={"endpoint": endpoint})
    assert left.status_code == 200
    assert listed(running) == {}


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        (b"", 400, None),
        (b"[]", 422, "body"),
        (b"{}", 422, "endpoint"),
        (b'{"endpoint": "http://8.8.8.8/"}', 422, "endpoint"),
        (b'{"endpoint": "https://8.8.8.8/", "filter": {"direction": "up"}}', 422, "filter.direction"),
        (b'{"endpoint": "https://8.8.8.8/", "direction": "up"}', 422, "filter.direction"),
        (b'{"endpoint": "https://8.8.8.8/", "filter": []}', 422, "filter"),
        (b'{"endpoint": "https://8.8.8.8/", "shape": "xml"}', 422, "shape"),
        (b'{"endpoint": "https://8.8.8.8/", "secret": "whsec_c2hvcnQ="}', 422, "secret"),
        (b'{"endpoint": "https://8.8.8.8/' + b"a" * 70_000 + b'"}', 413, None),
    ],
)
def test_invalid_fields_are_refused_by_name(body: bytes, status: int, path: str | None, running: RunningApp) -> None:
    answer = running.ask("POST", "/api/v2/webhooks/CallStarted", data=body)
    assert answer.status_code == status
    body = answer.json()
    assert (body["status"], body["statusCode"]) == ("error", status)
    assert [error["path"] for error in body.get("errors", [])] == ([path] if path else [])
    assert "8.8.8.8" not in answer.text


def test_keys_are_asked_for_except_where_the_id_is_the_key(running: RunningApp) -> None:
    for method, path in (
        ("POST", "/api/v2/webhooks/CallStarted"),
        ("POST", "/api/v2/webhooks/CallParked"),
        ("POST", "/api/v2/webhooks/unsubscribe"),
        ("POST", "/api/v2/webhooks/0123/rotate"),
        ("GET", "/api/v2/subscriptions"),
        ("GET", "/api/v2/events"),
    ):
        assert running.ask(method, path, key="").status_code == 401, path
    for what in ("replay", "wake", "rotate"):
        path = f"/api/ops/subscriptions/sub-x/{what}"
        assert {running.ask("POST", path, key=key).status_code for key in ("", KEY)} == {401}, path
    # The PBX's own ids are numbers: a flow made for the PBX has to be able to unsubscribe.
    answers = [running.ask("DELETE", f"/api/v2/webhooks/{id}", key="") for id in ("0" * 32, "AB" * 16, "17", "9" * 20)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}


@pytest.mark.parametrize("id", ["0" * 31, "g" * 32, "'%20or%20'", "%D9%A3", "CallEnded", "1%0A"])
def test_an_invalid_id_is_404(id: str, running: RunningApp) -> None:
    answer = running.ask("DELETE", f"/api/v2/webhooks/{id}", key="")
    assert (answer.status_code, answer.json()["statusCode"]) == (404, 404)


def test_the_same_request_is_the_same_subscription_and_shows_no_secret_again(running: RunningApp) -> None:
    first = running.subscribe("CallStarted", NOWHERE, filter={"caller": "+37127771153", "contact_id": 966})
    assert first["secret"].startswith("whsec_")
    for other in (
        {"contact_id": "966", "caller": "2777 1153"},
        {"filter": {"contact_id": 966.0}, "caller": "27771153"},
    ):
        again = running.subscribe("CallStarted", NOWHERE, **other)
        assert (again["data"], "secret" in again) == (first["data"], False)
    assert running.subscribe("CallStarted", NOWHERE)["data"] != first["data"]


def test_a_callback_address_is_enough_to_leave(running: RunningApp) -> None:
    for event, path in (("CallStarted", "one"), ("CallCompleted", "one"), ("CallStarted", "other")):
        running.subscribe(event, NOWHERE + path)
    for spelling in (NOWHERE, NOWHERE.upper()):
        body = {"endpoint": f"{spelling}one"}
        assert running.ask("POST", "/api/v2/webhooks/unsubscribe", json=body).status_code == 200
        (left,) = listed(running).values()
        assert (left["event"], left["host"]) == ("CallStarted", "127.0.0.1:9")
    assert running.ask("POST", "/api/v2/webhooks/unsubscribe", data=b"").status_code == 400
    for body, words in (
        ({}, "endpoint: it is required"),
        ([], "body: an object"),
        ({"endpoint": ""}, "endpoint: it is"),
    ):
        refused = running.ask("POST", "/api/v2/webhooks/unsubscribe", json=body)
        assert (refused.status_code, words in refused.json()["message"]) == (422, True), refused.text


@pytest.mark.slow
def test_nothing_comes_after_leaving(running: RunningApp, listener: Listener) -> None:
    gone = running.subscribe("CallStarted", listener.url + "/gone")
    running.subscribe("CallStarted", listener.url + "/here")
    running.happen("CallStarted")
    listener.wait(2)
    running.ask("DELETE", f"/api/v2/webhooks/{gone['data']}", key="")
    running.happen("CallStarted")
    listener.wait(3)
    assert Counter(one.path for one in listener.received) == {"/hook/gone": 1, "/hook/here": 2}


def test_a_given_secret_signs_and_both_sign_after_a_rotation(running: RunningApp, listener: Listener) -> None:
    own = new_secret()
    made = running.subscribe("CallStarted", listener.url, secret=own)
    assert made["secret"] == own
    rotated = running.ask("POST", f"/api/v2/webhooks/{made['data']}/rotate")
    assert (rotated.status_code, rotated.json()["data"]) == (200, made["data"])
    running.happen("CallStarted")
    (delivery,) = listener.wait(1)
    for secret in (own, rotated.json()["secret"]):
        verify(delivery.headers, delivery.body, [secret], time.time())
    assert running.ask("POST", f"/api/v2/webhooks/{'0' * 32}/rotate").status_code == 404


def test_the_list_shows_results_and_no_address(running: RunningApp, listener: Listener) -> None:
    listener.answer = lambda received: (500 if "bad" in received.path else 200, {})
    good = id_of(running, "CallStarted", f"{listener.url}/good?sig=s3cret", filter={"contact_id": 966})
    bad = id_of(running, "CallStarted", f"{listener.url}/bad?sig=s3cret", shape="cloudevents")
    running.happen("CallStarted", contactID=966)
    until(lambda: all(row["lastResult"] for row in listed(running).values()))
    rows = listed(running)
    assert (rows[good]["state"], rows[good]["lastResult"]) == ("active", "200")
    assert rows[good]["filter"] == {"contact_id": 966}
    assert (rows[bad]["state"], rows[bad]["lastResult"], rows[bad]["failures"]) == ("failing", "500", 1)
    assert rows[bad]["host"] == listener.url.split("/")[2]
    capabilities = [one.capability for one in Subscriptions(running.storage).all()]
    for secret in ("s3cret", "/hook", *capabilities):
        assert secret not in str(rows)


def test_a_visible_id_gives_no_rights(running: RunningApp) -> None:
    id = id_of(running, "CallStarted", NOWHERE)
    assert running.ask("DELETE", f"/api/v2/webhooks/{id}").status_code == 404
    assert running.ask("POST", f"/api/v2/webhooks/{id}/rotate").status_code == 404
    rotated = ask(running, id, "rotate")
    assert (rotated.status_code, rotated.json()["subscription"]) == (200, id)
    assert rotated.json()["secret"].startswith("whsec_")
    assert [*listed(running)] == [id]
    status = running.ask("GET", "/api/ops/status", key=MASTER).json()["subscriptionKeys"]
    assert (status["keys"], status["unreadable"]) == ({status["newest"]: 1}, [])


@pytest.mark.slow
def test_a_failed_delivery_comes_again_by_itself(running: RunningApp, listener: Listener) -> None:
    listener.answer = lambda received: (503 if len(listener.received) < 2 else 200, {"Retry-After": "1"})
    running.subscribe("VoicemailCreated", listener.url)
    id = running.happen("VoicemailCreated", voicemailID=next(_calls))
    received = listener.wait(2, seconds=15)
    assert {one.id for one in received} == {id}
    assert received[0].body == received[1].body
    assert 3 < received[1].time - received[0].time < 12


def test_a_replay_is_counted_first_and_goes_out_under_its_old_id(running: RunningApp, listener: Listener) -> None:
    id, span = id_of(running, "CallCompleted", listener.url), {"date_from": iso(now())}
    event = running.happen("CallCompleted")
    listener.wait(1)
    until(lambda: listed(running)[id]["lastResult"])
    counted = ask(running, id, "replay", json=span | {"dry_run": True})
    assert (counted.status_code, counted.json()["events"], counted.json()["complete"]) == (200, 1, True)
    assert ask(running, id, "replay", json=span).status_code == 202
    assert [one.id for one in listener.wait(2)] == [event, event]
    for wrong in ({"date_from": iso(now() + timedelta(hours=1))}, {"date_from": "soon"}, {}):
        assert ask(running, id, "replay", json=wrong).status_code == 422, wrong
    assert ask(running, "sub-nobody", "replay", json=span).status_code == 404


def test_a_subscriber_that_waits_is_tried_at_once(running: RunningApp, listener: Listener) -> None:
    listener.answer = lambda received: (503, {"Retry-After": "3600"})
    id = id_of(running, "CallConnected", listener.url)
    event = running.happen("CallConnected")
    listener.wait(1)
    until(lambda: listed(running)[id]["failures"])
    listener.answer = 200
    tried = ask(running, id, "wake")
    assert (tried.status_code, tried.json()) == (202, {"subscription": id, "events": 1})
    assert [one.id for one in listener.wait(2)] == [event, event]
    until(lambda: listed(running)[id]["state"] == "active")
    assert ask(running, "sub-nobody", "wake").status_code == 404


@pytest.mark.slow
def test_eight_subscribers_that_hang_delay_no_other_by_a_second(running: RunningApp, listener: Listener) -> None:
    released = threading.Event()

    def answer(received: Request) -> tuple[int, dict[str, str]]:
        if "/hang" in received.path:
            released.wait(60)
        return 200, {}

    def seconds(count: int) -> float:
        """The median time from an event to its delivery at the healthy subscriber."""
        found = []
        for _ in range(count):
            start = time.monotonic()
            event = running.happen("CallTransfered", callID=next(_calls))
            listener.wait_for(lambda all, event=event: ("/hook/good", event) in {(one.path, one.id) for one in all}, 60)
            found.append(time.monotonic() - start)
        return median(found)

    listener.answer = answer
    running.subscribe("CallTransfered", f"{listener.url}/good")
    alone = seconds(5)
    try:
        for number in range(8):
            running.subscribe("CallTransfered", f"{listener.url}/hang{number}")
        running.happen("CallTransfered", callID=next(_calls))
        listener.wait_for(lambda all: len({one.path for one in all if "/hang" in one.path}) == 8, 60)
        assert seconds(5) < alone + 1
    finally:
        released.set()


@pytest.mark.slow
def test_a_dead_and_a_slow_subscriber_keep_nobody_waiting(running: RunningApp, listener: Listener) -> None:
    events, subscribers = 30, 20

    def answer(received: Request) -> tuple[int, dict[str, str]]:
        if received.path.endswith("/slow"):
            time.sleep(3)
        return 200, {}

    listener.answer = answer
    running.subscribe("CallTransfered", f"{NOWHERE}dead")
    running.subscribe("CallTransfered", listener.url + "/slow")
    healthy = [f"/hook/{number}" for number in range(subscribers - 2)]
    for path in healthy:
        running.subscribe("CallTransfered", listener.url.removesuffix("/hook") + path)
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda number: running.happen("CallTransfered", callID=next(_calls)), range(events)))
    wanted = len(healthy) * events
    listener.wait_for(lambda received: sum(one.path in healthy for one in received) >= wanted, 120)
    seconds = time.monotonic() - start
    counts = Counter((one.path, one.id) for one in listener.received if one.path in healthy)
    assert counts == {(path, id): 1 for path in healthy for id in ids}
    # A batch at a time, each as slow as its slowest answer.
    assert len(listener.on("/hook/slow")) <= 8 * (1 + seconds // 3)
