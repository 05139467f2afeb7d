"""The simulator in its own process is steered through its control routes."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from dev.simulator import SimulatorProcess


def control(pbx: Any, method: str, name: str, /, **body: Any) -> Any:
    return requests.request(method, f"{pbx.url}/sim/{name}", json=body, timeout=10)


def test_a_process_starts_serves_and_is_steered() -> None:
    with SimulatorProcess("other-key") as pbx:
        headers = {"Authorization": "Bearer other-key"}
        assert pbx.control("POST", "bulk", resource="contacts", count=7)["count"] == 7
        answer = requests.get(f"{pbx.base_url}trigger/contacts", headers=headers, timeout=5)
        assert len(answer.json()["data"]) == 7
        assert pbx.control("GET", "requests")[0]["operation"] == "GetContacts"
        assert pbx.control("GET", "window", seconds=60) == {"calls": 1}


def test_calls_faults_clock_options_and_files_by_http(pbx: Any, client: Any) -> None:
    assert control(pbx, "POST", "clock", set="2026-03-02T08:00:00Z").ok
    call = control(pbx, "POST", "calls", caller="27771153", recorded=True, at=-90).json()
    file = control(
        pbx, "POST", "files", resource="call_records", id=call["recording_id"], size=500_000, ready_in=60
    ).json()
    assert file["length"] == 500_000
    assert control(pbx, "POST", "options", times="z").json()["times"] == "z"
    assert client.data(f"call_history/{call['id']}")["callStarted"] == "2026-03-02T07:58:30Z"
    assert control(pbx, "POST", "faults", kind="status", match="GetGroups", status=500).ok
    assert client.get("trigger/groups").status_code == 500
    assert control(pbx, "DELETE", "faults").ok
    assert client.get("trigger/groups").status_code == 200
    assert control(pbx, "POST", "reset").ok
    assert client.data("trigger/call_history") == []
    assert pbx.options.times == "offset"


def test_items_are_added_edited_and_removed_by_http(pbx: Any, client: Any) -> None:
    number = control(pbx, "POST", "items", resource="contacts", firstname="Anna").json()["id"]
    control(pbx, "PATCH", "items", resource="contacts", id=number, firstname="Ilze")
    assert client.data(f"contacts/{number}")["firstname"] == "Ilze"
    control(pbx, "DELETE", "items", resource="contacts", id=number)
    assert client.get(f"contacts/{number}").status_code == 404


@pytest.mark.parametrize(
    ("name", "body"),
    [("faults", {"kind": "nonsense"}), ("options", {"nonsense": 1}), ("bulk", {}), ("clock", {"set": "noon"})],
)
def test_a_control_that_does_not_fit_is_400(pbx: Any, name: str, body: dict[str, Any]) -> None:
    assert control(pbx, "POST", name, **body).status_code == 400


def test_a_paced_day_waits_for_its_webhooks_and_ends_in_real_time(pbx: Any) -> None:
    assert control(pbx, "POST", "day", name="demo", pace=0.001, webhooks=1).ok
    assert not control(pbx, "GET", "day").json()["done"]
    pbx.hooks.subscribe("CallStarted", f"{pbx.url}/nobody")
    assert pbx.day_done.wait(10)
    assert control(pbx, "GET", "counts").json()["call_history"] == 8
    assert len(pbx.posted) >= 8
    assert abs(pbx.clock.now().timestamp() - time.time()) < 60
