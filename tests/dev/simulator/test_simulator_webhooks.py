"""Subscriptions within the cap, and deliveries as the PBX posts them or spoilt on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from dev.simulator.resources import EVENTS

URL = "https://bridge.example/api/events/CallStarted?code=1"


@pytest.mark.parametrize(
    ("form", "read"),
    [("number", int), ("string", str), ("object", lambda text: {"webhook_id": int(text)}), ("none", lambda _: None)],
    ids=["number", "string", "object", "none"],
)
def test_the_id_comes_in_location_and_in_data_as_chosen(pbx: Any, client: Any, form: str, read: Any) -> None:
    pbx.options.webhook_data = form
    answer = client.post("webhooks/CallStarted", {"endpoint": URL})
    number = answer.headers["Location"].rsplit("/", 1)[1]
    assert answer.json()["data"] == read(number)
    assert client.delete(f"webhooks/{number}").status_code == 200
    assert client.delete(f"webhooks/{number}").status_code == 404


def test_the_twenty_first_webhook_is_422(pbx: Any, client: Any) -> None:
    statuses = [client.post(f"webhooks/{EVENTS[n % 10].name}", {"endpoint": URL}).status_code for n in range(21)]
    assert statuses == [200] * 20 + [422]
    assert len(pbx.webhooks) == 20


def test_an_event_reaches_its_subscriber_in_the_envelope(pbx: Any, inbox: Any) -> None:
    pbx.emit("LostCallerRemoved", callerid="27771153", destination="67021234")
    assert pbx.wait_delivered()
    assert inbox.bodies == [
        {
            "type": "Event",
            "eventType": "LostCallerRemoved",
            "version": "v1",
            "data": {"destination": "67021234", "callerid": "27771153"},
        }
    ]


def test_an_endpoint_that_is_gone_holds_up_nothing(pbx: Any) -> None:
    pbx.hooks.subscribe("CallStarted", "http://127.0.0.1:9/nobody")
    pbx.call("27771153")
    assert pbx.wait_delivered()


def test_a_delivery_can_be_dropped(pbx: Any, inbox: Any) -> None:
    pbx.hooks.faults.add("drop", "CallStarted", times=1)
    pbx.emit("CallStarted", callID=1)
    pbx.emit("VoicemailDeleted", voicemailID=2)
    pbx.wait_delivered()
    assert inbox.names == ["VoicemailDeleted"]
