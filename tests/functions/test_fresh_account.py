"""An app outside Azure makes its account ready by itself, also where it starts before its storage does."""

from __future__ import annotations

import json
import pathlib

import pytest
import requests

from dev.azurite import AzuriteProcess, Ports
from dev.listener import Listener
from dev.simulator import Simulator
from tests.hosts import free_port, start_host
from tests.waiting import until

ROOT = pathlib.Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "events"
RECORDING, CALL = 150818921852, 1524664459097344

pytestmark = pytest.mark.xdist_group("receivers")


@pytest.mark.slow
def test_an_event_a_recording_and_a_delivery_on_an_account_that_comes_up_empty_after_the_app() -> None:
    ports = Ports(*(free_port() for _ in range(3)))
    with AzuriteProcess(ports=ports) as before:
        connection = before.connection_string
    with Simulator(api_key="k") as pbx, Listener() as listener:
        contact = pbx.add_contact("Anna", "Bērziņa", contact_id=966)
        pbx.add("call_records", RECORDING, callID=CALL, contactID=contact, callStarted="2018-04-25T13:54:19+0000")
        environment = {
            "DataStorage": connection,
            "PBX_BASE_URL": pbx.base_url,
            "PBX_API_KEY": "k",
            "PBX_WEBHOOK_KEY": "",
            "ALLOW_LOOPBACK_CALLBACKS": "true",
        }
        with start_host(env=environment) as host, requests.Session() as session:

            def post(path: str, body: object) -> int:
                return session.post(f"{host.url}/api/{path}", json=body, timeout=10).status_code

            event = json.loads((FIXTURES / "CallRecorded.json").read_text())
            assert post("events/CallRecorded", event) == 503
            with AzuriteProcess(ports=ports):
                wanted = {"endpoint": listener.url}
                until(lambda: post("v2/webhooks/RecordingStored", wanted) == 201)
                assert post("v2/webhooks/CallRecorded", wanted) == 201
                assert post("events/CallRecorded", event) == 202
                listener.wait(2)
        assert {one.json()["eventType"] for one in listener.received} == {"CallRecorded", "RecordingStored"}
