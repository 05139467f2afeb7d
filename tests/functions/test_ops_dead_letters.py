"""Dead letters over HTTP through a real host: listed, shown, retried and discarded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dev.listener import Listener
from shared import audit
from shared.storage.messages import dead_letter
from shared.values import encode
from tests.apps import KEY, MASTER, RunningApp

if TYPE_CHECKING:
    import requests

pytestmark = pytest.mark.xdist_group("shared_bridge")


def ask(running: RunningApp, method: str, path: str = "", **options: Any) -> requests.Response:
    return running.ask(method, f"/api/ops/deadletters{path}", key=MASTER, **options)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/event/x"), ("POST", "/event/x/retry"), ("DELETE", "/event/x"), ("POST", "/replay")],
)
def test_dead_letters_need_the_master_key(method: str, path: str, shared_bridge: RunningApp) -> None:
    url = f"/api/ops/deadletters{path}"
    assert {shared_bridge.ask(method, url, key=key).status_code for key in ("", KEY)} == {401}


def test_a_dead_letter_is_listed_shown_retried_and_discarded(shared_bridge: RunningApp) -> None:
    running = shared_bridge
    fits = encode({"type": "Event", "eventType": "CallStarted", "version": "v1", "data": {"callID": 1524664459097344}})
    for id, body in (("CallStarted-fits", fits), ("CallStarted-not", b"{")):
        dead_letter(running.storage, kind="refused", id=id, reason="a test", body=body)
    dead_letter(running.storage, kind="polled", id="contacts-1", reason="a test", body=b"{}")
    rows = ask(running, "GET", params={"kind": "refused"}).json()["data"]
    assert [(row["id"], row["actions"], bool(row["cannotRetry"])) for row in rows] == [
        ("CallStarted-fits", ["retry", "discard"], False),
        ("CallStarted-not", ["discard"], True),
    ]
    assert ask(running, "GET", "/refused/CallStarted-fits").json()["body"] == json.loads(fits)
    with Listener() as listener:
        left = running.subscribe("CallStarted", listener.url)["data"]
        assert ask(running, "POST", "/refused/CallStarted-fits/retry").status_code == 202
        (delivery,) = listener.wait(1)
        assert delivery.json() == json.loads(fits)
        running.ask("DELETE", f"/api/v2/webhooks/{left}")
    path = "/refused/CallStarted-not"
    refused = ask(running, "POST", f"{path}/retry")
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "id")
    assert ask(running, "DELETE", path).status_code == 422
    assert ask(running, "DELETE", path, json={"reason": "sent by mistake"}).json()["result"] == "discarded"
    assert ask(running, "DELETE", "/polled/contacts-1?reason=seen").status_code == 200
    assert [ask(running, *what).status_code for what in (("GET", path), ("DELETE", f"{path}?reason=a"))] == [404] * 2
    assert ask(running, "GET").json() == {"data": [], "continuation": None}
    notes = [row["note"] for row in audit.listed(running.storage, 9)]
    assert "refused/CallStarted-not: sent by mistake" in notes


def test_a_list_of_dead_letters_is_read_in_parts_and_knows_its_parameters(shared_bridge: RunningApp) -> None:
    for number in range(3):
        dead_letter(shared_bridge.storage, kind="media", id=f"m{number}", reason="a test", body=b"{}")
    first = ask(shared_bridge, "GET", "?limit=2").json()
    rest = ask(shared_bridge, "GET", f"?limit=2&continuation={first['continuation']}").json()
    assert [row["id"] for row in first["data"] + rest["data"]] == ["m0", "m1", "m2"]
    assert ask(shared_bridge, "GET", "?continuation=garbage").status_code == 400
    for query in ("kinds=media", "limit=0"):
        assert ask(shared_bridge, "GET", f"?{query}").status_code == 422, query
    for number in range(3):
        assert ask(shared_bridge, "DELETE", f"/media/m{number}?reason=seen").status_code == 200
