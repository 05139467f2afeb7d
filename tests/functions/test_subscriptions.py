"""Subscribing, receiving and unsubscribing, over HTTP through a real host."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from dev.listener import Listener, Received
from dev.signatures import verify
from shared.events.event import submit
from shared.events.table import EVENTS
from shared.settings import Settings
from shared.subscriptions.store import MOST, TABLE, Subscriptions
from shared.subscriptions.subscription import Subscription, new_secret
from tests.bridges import MASTER, RunningBridge
from tests.stored import stored_audio
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.xdist_group("shared_bridge")
_calls = itertools.count(1524664459500000)


@pytest.fixture(scope="module")
def running(shared_bridge: RunningBridge) -> RunningBridge:
    return shared_bridge


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


def listed(running: RunningBridge) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = running.ask("GET", "/api/v2/subscriptions").json()["data"]
    return data


def feed(running: RunningBridge, **query: Any) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = running.ask("GET", "/api/v2/events", params=query).json()["data"]
    return data


@pytest.fixture(autouse=True)
def alone(running: RunningBridge) -> Iterator[None]:
    """Who subscribed in one test is gone in the next."""
    yield
    for one in Subscriptions(running.storage).all():
        running.ask("DELETE", f"/api/v2/webhooks/{one.capability}")


def test_an_event_reaches_its_subscriber_signed_and_as_the_pbx_said_it(
    running: RunningBridge, listener: Listener
) -> None:
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


@pytest.mark.slow
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_every_event_can_be_subscribed_to_and_left_without_a_key(event: Any, running: RunningBridge) -> None:
    made = running.ask("POST", f"/api/v2/webhooks/{event.name}", json={"endpoint": "http://127.0.0.1:9/"})
    assert made.status_code == 201
    for _ in range(2):
        left = running.ask("DELETE", made.headers["Location"], key="")
        assert (left.status_code, left.json()["data"]) == (200, None)
    assert listed(running) == []


def test_a_request_whose_filter_is_written_otherwise_is_the_same_one(running: RunningBridge) -> None:
    filters: tuple[dict[str, object], ...] = (
        {"caller": "+37127771153", "contact_id": 966},
        {"contact_id": "966", "caller": "2777 1153"},
        {"caller": "tel:00371-27771153", "contact_id": 966.0},
    )
    found = {running.subscribe("CallStarted", "http://127.0.0.1:9/same", filter=given)["data"] for given in filters}
    assert len(found) == 1


@pytest.mark.parametrize("spelling", ["callcompleted", "CALLCOMPLETED", "CallCompletedEvent", "call_completed"])
def test_other_spellings_of_an_event_are_taken(spelling: str, running: RunningBridge) -> None:
    running.subscribe(spelling, "http://127.0.0.1:9/")
    (one,) = listed(running)
    assert one["event"] == "CallCompleted"


@pytest.mark.parametrize("name", ["CallParked", "Unsubscribed", "un-subscribe", "unsubscribe%20", "webhooks"])
def test_an_event_that_nobody_knows_is_not_found(name: str, running: RunningBridge) -> None:
    answer = running.ask("POST", f"/api/v2/webhooks/{name}", json={"endpoint": "http://127.0.0.1:9/"})
    assert (answer.status_code, answer.json()["statusCode"]) == (404, 404)


WAYS_IN = ("LostCallerAdded", "lostcallercreated", "RecordingStored")
WAYS_OUT = ("Location", "UNSUBSCRIBE")


@pytest.mark.parametrize("way_out", WAYS_OUT)
@pytest.mark.parametrize("way_in", WAYS_IN)
def test_a_subscription_made_each_way_can_be_ended_each_way(way_in: str, way_out: str, running: RunningBridge) -> None:
    endpoint = "http://127.0.0.1:9/a%20b?sig=%2B"
    made = running.ask("POST", f"/api/v2/webhooks/{way_in}", json={"endpoint": endpoint})
    assert made.status_code == 201
    if way_out == "Location":
        left = running.ask("DELETE", made.headers["Location"], key="")
    else:
        left = running.ask("POST", f"/api/v2/webhooks/{way_out}", json={"endpoint": endpoint})
    assert left.status_code == 200
    assert listed(running) == []


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        (b"", 400, None),
        (b"garbage", 400, None),
        (b"[]", 422, "body"),
        (b"{}", 422, "endpoint"),
        (b'{"endpoint": 5}', 422, "endpoint"),
        (b'{"endpoint": "http://8.8.8.8/"}', 422, "endpoint"),
        (b'{"endpoint": "https://10.0.0.1/"}', 422, "endpoint"),
        (b'{"endpoint": "https://user@8.8.8.8/"}', 422, "endpoint"),
        (b'{"endpoint": "https://8.8.8.8/", "filter": {"direction": "up"}}', 422, "filter.direction"),
        (b'{"endpoint": "https://8.8.8.8/", "direction": "up"}', 422, "filter.direction"),
        (b'{"endpoint": "https://8.8.8.8/", "filter": {"contact": 5}}', 422, "filter.contact"),
        (b'{"endpoint": "https://8.8.8.8/", "filter": []}', 422, "filter"),
        (b'{"endpoint": "https://8.8.8.8/", "shape": "xml"}', 422, "shape"),
        (b'{"endpoint": "https://8.8.8.8/", "secret": "whsec_c2hvcnQ="}', 422, "secret"),
        (b'{"endpoint": "https://8.8.8.8/' + b"a" * 70_000 + b'"}', 413, None),
    ],
)
def test_what_does_not_fit_is_refused_with_the_field(
    body: bytes, status: int, path: str | None, running: RunningBridge
) -> None:
    answer = running.ask("POST", "/api/v2/webhooks/CallStarted", data=body)
    assert answer.status_code == status
    body = answer.json()
    assert (body["status"], body["statusCode"]) == ("error", status)
    assert [error["path"] for error in body.get("errors", [])] == ([path] if path else [])
    assert "8.8.8.8" not in answer.text


def test_keys_are_asked_for_except_where_the_id_is_the_key(running: RunningBridge) -> None:
    for method, path in (
        ("POST", "/api/v2/webhooks/CallStarted"),
        ("POST", "/api/v2/webhooks/CallParked"),
        ("POST", "/api/v2/webhooks/unsubscribe"),
        ("POST", "/api/v2/webhooks/0123/rotate"),
        ("GET", "/api/v2/subscriptions"),
        ("GET", "/api/v2/events"),
    ):
        assert running.ask(method, path, key="").status_code == 401, path
    # The PBX's own ids are numbers: a flow that comes from there has to be able to end.
    answers = [running.ask("DELETE", f"/api/v2/webhooks/{id}", key="") for id in ("0" * 32, "AB" * 16, "17", "9" * 20)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}


@pytest.mark.parametrize("id", ["x", "0" * 31, "g" * 32, "9" * 33, "'%20or%20'", "%D9%A3", "CallEnded", "1%0A"])
def test_what_cannot_be_an_id_is_not_found(id: str, running: RunningBridge) -> None:
    answer = running.ask("DELETE", f"/api/v2/webhooks/{id}", key="")
    assert (answer.status_code, answer.json()["statusCode"]) == (404, 404)


def test_one_too_many_is_refused_with_what_to_do(running: RunningBridge) -> None:
    keys = Subscriptions(running.storage).keys
    others = [Subscription.new(event="CallStarted", endpoint=f"https://8.8.8.8/{number}") for number in range(MOST)]
    rows = [one.row(keys) for one in others]
    table = running.storage.table(TABLE)
    for start in range(0, MOST, 100):
        table.submit_transaction([("create", row) for row in rows[start : start + 100]])
    answer = running.ask("POST", "/api/v2/webhooks/CallStarted", json={"endpoint": "http://127.0.0.1:9/"})
    for start in range(0, MOST, 100):
        table.submit_transaction([("delete", row) for row in rows[start : start + 100]])
    body = answer.json()
    assert (answer.status_code, body["status"], body["statusCode"]) == (409, "error", 409)
    assert body["message"] == f"Limit of {MOST} subscriptions reached. Delete one first."


def test_the_same_request_is_the_same_subscription_and_shows_no_secret_again(running: RunningBridge) -> None:
    url = "http://127.0.0.1:9/hook"
    first = running.subscribe("CallStarted", url, filter={"direction": "in"})
    assert first["secret"].startswith("whsec_")
    again = running.subscribe("CallStarted", url, direction="in")
    assert (again["data"], "secret" in again) == (first["data"], False)
    assert running.subscribe("CallStarted", url)["data"] != first["data"]


def test_a_callback_address_is_enough_to_leave(running: RunningBridge) -> None:
    one, other = "http://127.0.0.1:9/one", "http://127.0.0.1:9/other"
    for event, url in (("CallStarted", one), ("CallCompleted", one), ("CallStarted", other)):
        running.subscribe(event, url)
    for word in ("unsubscribe", "Unsubscribe"):
        assert running.ask("POST", f"/api/v2/webhooks/{word}", json={"endpoint": one}).status_code == 200
        (left_over,) = listed(running)
        assert (left_over["event"], left_over["host"]) == ("CallStarted", "127.0.0.1:9")
    assert running.ask("POST", "/api/v2/webhooks/unsubscribe", data=b"").status_code == 400
    for body, words in (
        ({}, "endpoint: it is required"),
        ([], "body: an object"),
        ({"endpoint": ""}, "endpoint: it is"),
    ):
        refused = running.ask("POST", "/api/v2/webhooks/unsubscribe", json=body)
        assert (refused.status_code, words in refused.json()["message"]) == (422, True), refused.text


@pytest.mark.slow
def test_nothing_comes_after_leaving(running: RunningBridge, listener: Listener) -> None:
    gone = running.subscribe("CallStarted", listener.url + "/gone")
    running.subscribe("CallStarted", listener.url + "/here")
    running.happen("CallStarted")
    listener.wait(2)
    running.ask("DELETE", f"/api/v2/webhooks/{gone['data']}", key="")
    running.happen("CallStarted")
    listener.wait(3)
    assert Counter(one.path for one in listener.received) == {"/hook/gone": 1, "/hook/here": 2}


def test_a_secret_of_one_s_own_signs_and_both_do_after_a_rotation(running: RunningBridge, listener: Listener) -> None:
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


def test_the_list_shows_results_and_no_address(running: RunningBridge, listener: Listener) -> None:
    listener.answer = lambda received: (500 if "bad" in received.path else 200, {})
    made = [
        running.ask("POST", "/api/v2/webhooks/CallStarted", json={"endpoint": listener.url + path, **more})
        for path, more in (
            ("/good?sig=s3cret", {"filter": {"contact_id": 966}}),
            ("/bad?sig=s3cret", {"shape": "cloudevents"}),
        )
    ]
    good, bad = (answer.headers["Subscription-Id"] for answer in made)
    running.happen("CallStarted", contactID=966)
    listener.wait(2)
    until(lambda: all(row["lastResult"] for row in listed(running)))
    answer = running.ask("GET", "/api/v2/subscriptions")
    rows = {row["id"]: row for row in answer.json()["data"]}
    assert (rows[good]["state"], rows[good]["lastResult"]) == ("active", "200")
    assert rows[good]["filter"] == {"contact_id": 966}
    assert (rows[bad]["state"], rows[bad]["lastResult"], rows[bad]["failures"]) == ("failing", "500", 1)
    assert rows[bad]["host"] == listener.url.split("/")[2]
    for secret in ("s3cret", "/hook", *(one.json()["data"] for one in made)):
        assert secret not in answer.text


def test_an_id_that_may_be_seen_gives_no_rights(running: RunningBridge) -> None:
    made = running.ask("POST", "/api/v2/webhooks/CallStarted", json={"endpoint": "http://127.0.0.1:9/"})
    id = made.headers["Subscription-Id"]
    assert running.ask("DELETE", f"/api/v2/webhooks/{id}").status_code == 404
    assert running.ask("POST", f"/api/v2/webhooks/{id}/rotate").status_code == 404
    assert running.ask("POST", f"/api/ops/subscriptions/{id}/rotate").status_code == 401
    rotated = running.ask("POST", f"/api/ops/subscriptions/{id}/rotate", key=MASTER)
    assert (rotated.status_code, rotated.json()["subscription"]) == (200, id)
    assert rotated.json()["secret"] not in made.text
    assert [one["id"] for one in listed(running)] == [id]
    status = running.ask("GET", "/api/ops/status", key=MASTER).json()["subscriptionKeys"]
    assert (status["keys"], status["unreadable"]) == ({status["newest"]: 1}, [])


def test_a_subscription_ends_in_any_spelling_of_its_address(running: RunningBridge) -> None:
    first = running.subscribe("CallStarted", "http://127.0.0.1:9/Hook?a=%7E")
    assert running.subscribe("CallStarted", "HTTP://127.0.0.1.:9/Hook?a=%7E")["data"] == first["data"]
    running.ask("POST", "/api/v2/webhooks/unsubscribe", json={"endpoint": "http://127.0.0.1:9/hook?a=%7E"})
    assert len(listed(running)) == 1
    running.ask("POST", "/api/v2/webhooks/unsubscribe", json={"endpoint": "HTTP://127.0.0.1.:9/Hook?a=%7E"})
    assert listed(running) == []


@pytest.mark.slow
def test_a_failed_delivery_comes_again_by_itself(running: RunningBridge, listener: Listener) -> None:
    listener.answer = lambda received: (503 if len(listener.received) < 2 else 200, {"Retry-After": "1"})
    running.subscribe("VoicemailCreated", listener.url)
    id = running.happen("VoicemailCreated", voicemailID=next(_calls))
    received = listener.wait(2, seconds=15)
    assert {one.id for one in received} == {id}
    assert received[0].body == received[1].body
    assert 3 < received[1].time - received[0].time < 12


@pytest.mark.slow
def test_the_app_s_own_events_are_delivered_too(running: RunningBridge, listener: Listener) -> None:
    settings = Settings.from_env({"DataStorage": "UseDevelopmentStorage=true", "PBX_API_KEY": "key"})
    for event in ("RecordingStored", "ContactCreated"):
        running.subscribe(event, f"{listener.url}/{event}")
    number = next(_calls)
    stored = {"recordingID": number, "callID": number, "contactID": 966, "caller": "27771153", "direction": "in"}
    stored |= stored_audio("https://account.blob.example/recordings/1.mp3")
    submit(running.storage, settings, "RecordingStored", stored, origin="bridge")
    submit(running.storage, settings, "ContactCreated", {"contactID": number, "firstname": "Anna"}, origin="poll")
    bodies = {one.path.rpartition("/")[2]: one.json() for one in listener.wait(2)}
    assert bodies["RecordingStored"]["data"] == stored
    assert bodies["ContactCreated"]["data"]["firstname"] == "Anna"


def test_the_feed_is_read_in_parts(running: RunningBridge) -> None:
    call = next(_calls)
    ids = [running.happen(event, callID=call) for event in ("CallStarted", "CallConnected", "CallCompleted")]
    query = f"/api/v2/events?call_id={call}&limit=2"
    until(lambda: len(feed(running, call_id=call)) == 3)
    first = running.ask("GET", query).json()
    second = running.ask("GET", f"{query}&continuation={first['continuation']}").json()
    assert [item["id"] for item in first["data"] + second["data"]] == ids[::-1]
    assert second["continuation"] is None
    wrong = running.ask("GET", f"{query}&continuation=garbage")
    assert (wrong.status_code, wrong.json()["message"][:26]) == (400, "Invalid continuation token")


@pytest.mark.slow
def test_a_dead_and_a_slow_subscriber_keep_nobody_waiting(running: RunningBridge, listener: Listener) -> None:
    events, subscribers = 40, 20

    def answer(received: Received) -> tuple[int, dict[str, str]]:
        if received.path.endswith("/slow"):
            time.sleep(3)
        return 200, {}

    listener.answer = answer
    running.subscribe("CallTransfered", "http://127.0.0.1:9/dead")
    running.subscribe("CallTransfered", listener.url + "/slow")
    healthy = [f"/hook/{number}" for number in range(subscribers - 2)]
    for path in healthy:
        running.subscribe("CallTransfered", listener.url.removesuffix("/hook") + path)
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda number: running.happen("CallTransfered", callID=next(_calls)), range(events)))
    wanted = len(healthy) * events
    listener.wait_for(lambda received: sum(one.path in healthy for one in received) >= wanted, 40)
    seconds = time.monotonic() - start
    counts = Counter((one.path, one.id) for one in listener.received if one.path in healthy)
    assert counts == {(path, id): 1 for path in healthy for id in ids}
    # A batch at a time, each as slow as its slowest answer.
    assert len(listener.on("/hook/slow")) <= 8 * (1 + seconds // 3)
