"""What an operator does with dead letters and with subscribers that wait, over HTTP through a real host."""

from __future__ import annotations

import itertools
import json
import threading
import time
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from dev.listener import Listener, Received
from shared import audit
from shared.json_bodies import encode
from shared.storage.dead_letters import dead_letter
from shared.subscriptions.store import Subscriptions
from shared.times import iso, now
from tests.bridges import KEY, MASTER, RunningBridge
from tests.stored import dead_letters
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

pytestmark = pytest.mark.xdist_group("shared_bridge")
NOWHERE = "http://127.0.0.1:9/"
_calls = itertools.count(1524664459097344)


@pytest.fixture(scope="module")
def running(shared_bridge: RunningBridge) -> RunningBridge:
    return shared_bridge


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.fixture(autouse=True)
def alone(running: RunningBridge) -> Iterator[None]:
    """Whoever subscribed in one test is gone in the next, and so are its dead letters."""
    yield
    for one in Subscriptions(running.storage).all():
        running.ask("DELETE", f"/api/v2/webhooks/{one.capability}")
    for dead in dead_letters(running.storage):
        running.storage.table("deadletters").delete_entity(dead)


def ask(running: RunningBridge, method: str, path: str, **options: Any) -> requests.Response:
    return running.ask(method, f"/api/ops/{path}", key=MASTER, **options)


def subscribe(running: RunningBridge, event: str, endpoint: str) -> str:
    """The public id of a new subscription."""
    made = running.ask("POST", f"/api/v2/webhooks/{event}", json={"endpoint": endpoint})
    assert made.status_code == 201, made.text
    return made.headers["Subscription-Id"]


def listed(running: RunningBridge, id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = running.ask("GET", "/api/v2/subscriptions").json()["data"]
    return next(row for row in found if row["id"] == id)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "deadletters"),
        ("GET", "deadletters/event/x"),
        ("POST", "deadletters/event/x/retry"),
        ("DELETE", "deadletters/event/x?reason=a"),
        ("POST", "deadletters/replay"),
        ("POST", "subscriptions/sub-x/replay"),
        ("POST", "subscriptions/sub-x/wake"),
        ("POST", "subscriptions/sub-x/rotate"),
    ],
)
def test_only_the_master_key_opens_them(method: str, path: str, running: RunningBridge) -> None:
    assert {running.ask(method, f"/api/ops/{path}", key=key).status_code for key in ("", KEY)} == {401}


def test_a_dead_letter_is_listed_shown_retried_and_discarded(running: RunningBridge, listener: Listener) -> None:
    subscribe(running, "CallStarted", listener.url)
    fits = encode({"type": "Event", "eventType": "CallStarted", "version": "v1", "data": {"callID": next(_calls)}})
    for id, body in (("CallStarted-fits", fits), ("CallStarted-not", b"{")):
        dead_letter(running.storage, kind="refused", id=id, reason="a test", body=body)
    dead_letter(running.storage, kind="polled", id="contacts-1", reason="a test", body=b"{}")
    rows = ask(running, "GET", "deadletters", params={"kind": "refused"}).json()["data"]
    assert [(row["id"], row["actions"], bool(row["cannotRetry"])) for row in rows] == [
        ("CallStarted-fits", ["retry", "discard"], False),
        ("CallStarted-not", ["discard"], True),
    ]
    assert ask(running, "GET", "deadletters/refused/CallStarted-fits").json()["body"] == json.loads(fits)
    assert ask(running, "POST", "deadletters/refused/CallStarted-fits/retry").status_code == 202
    (delivery,) = listener.wait(1)
    assert delivery.json() == json.loads(fits)
    refused = ask(running, "POST", "deadletters/refused/CallStarted-not/retry")
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "id")
    path = "deadletters/refused/CallStarted-not"
    assert ask(running, "DELETE", path).status_code == 422
    assert ask(running, "DELETE", path, json={"reason": "sent by mistake"}).json()["result"] == "discarded"
    assert ask(running, "DELETE", "deadletters/polled/contacts-1?reason=seen").status_code == 200
    assert [ask(running, *what).status_code for what in (("GET", path), ("DELETE", f"{path}?reason=a"))] == [404] * 2
    assert ask(running, "GET", "deadletters").json() == {"data": [], "continuation": None}
    notes = [row["note"] for row in audit.listed(running.storage, 9)]
    assert "refused/CallStarted-not: sent by mistake" in notes


def test_a_list_of_dead_letters_is_read_in_parts_and_knows_its_parameters(running: RunningBridge) -> None:
    for number in range(3):
        dead_letter(running.storage, kind="media", id=f"m{number}", reason="a test", body=b"{}")
    first = ask(running, "GET", "deadletters?limit=2").json()
    rest = ask(running, "GET", f"deadletters?limit=2&continuation={first['continuation']}").json()
    assert [row["id"] for row in first["data"] + rest["data"]] == ["m0", "m1", "m2"]
    assert ask(running, "GET", "deadletters?continuation=garbage").status_code == 400
    for query in ("kinds=media", "limit=0"):
        assert ask(running, "GET", f"deadletters?{query}").status_code == 422, query


def test_a_replay_is_counted_first_and_goes_out_under_its_old_id(running: RunningBridge, listener: Listener) -> None:
    id = subscribe(running, "CallCompleted", listener.url)
    event = running.happen("CallCompleted")
    listener.wait(1)
    until(lambda: listed(running, id)["lastResult"])
    path, span = f"subscriptions/{id}/replay", {"date_from": iso(now() - timedelta(minutes=5))}
    counted = ask(running, "POST", path, json=span | {"dry_run": True})
    assert (counted.status_code, counted.json()["events"], counted.json()["complete"]) == (200, 1, True)
    assert ask(running, "POST", path, json=span).status_code == 202
    assert [one.id for one in listener.wait(2)] == [event, event]
    for wrong in ({"date_from": iso(now() + timedelta(hours=1))}, {"date_from": "soon"}, {}):
        assert ask(running, "POST", path, json=wrong).status_code == 422, wrong
    assert ask(running, "POST", "subscriptions/sub-nobody/replay", json=span).status_code == 404


def test_a_subscriber_that_waits_is_tried_at_once(running: RunningBridge, listener: Listener) -> None:
    listener.answer = lambda received: (503, {"Retry-After": "3600"})
    id = subscribe(running, "CallConnected", listener.url)
    event = running.happen("CallConnected")
    listener.wait(1)
    until(lambda: listed(running, id)["failures"])
    listener.answer = 200
    tried = ask(running, "POST", f"subscriptions/{id}/wake")
    assert (tried.status_code, tried.json()) == (202, {"subscription": id, "events": 1})
    assert [one.id for one in listener.wait(2)] == [event, event]
    until(lambda: listed(running, id)["state"] == "active")
    assert ask(running, "POST", "subscriptions/sub-nobody/wake").status_code == 404


@pytest.mark.slow
def test_eight_subscribers_that_hang_delay_no_other_by_a_second(running: RunningBridge, listener: Listener) -> None:
    released = threading.Event()

    def answer(received: Received) -> tuple[int, dict[str, str]]:
        if "/hang" in received.path:
            released.wait(60)
        return 200, {}

    def seconds(count: int) -> float:
        """The median time from an event to its delivery at the healthy subscriber."""
        found = []
        for _ in range(count):
            start = time.monotonic()
            event = running.happen("CallTransfered", callID=next(_calls))
            listener.wait_for(lambda all, event=event: ("/hook/good", event) in {(one.path, one.id) for one in all}, 30)
            found.append(time.monotonic() - start)
        return median(found)

    listener.answer = answer
    subscribe(running, "CallTransfered", f"{listener.url}/good")
    alone = seconds(5)
    try:
        for number in range(8):
            subscribe(running, "CallTransfered", f"{listener.url}/hang{number}")
        running.happen("CallTransfered", callID=next(_calls))
        listener.wait_for(lambda all: len({one.path for one in all if "/hang" in one.path}) == 8, 30)
        assert seconds(5) < alone + 1
    finally:
        released.set()
