"""The simulator in a process of its own, changed through its control routes."""

from __future__ import annotations

import time
from typing import Any

import requests

from dev.simulator import SimulatorProcess


def control(pbx: Any, method: str, name: str, /, **body: Any) -> Any:
    return requests.request(method, f"{pbx.url}/sim/{name}", json=body, timeout=10)


def test_a_process_starts_serves_and_is_changed() -> None:
    with SimulatorProcess("other-key") as pbx:
        headers = {"Authorization": "Bearer other-key"}
        assert pbx.control("POST", "bulk", resource="contacts", count=7)["count"] == 7
        answer = requests.get(f"{pbx.base_url}trigger/contacts", headers=headers, timeout=5)
        assert len(answer.json()["data"]) == 7


def test_calls_items_and_files_are_made_by_http(pbx: Any, client: Any) -> None:
    call = control(pbx, "POST", "calls", caller="27771153", destination="67000123", recorded=True, at=-90).json()
    assert client.data(f"call_history/{call['id']}")["caller"] == "27771153"
    changed = control(pbx, "POST", "files", resource="call_records", id=call["recording_id"], size=500_000)
    assert changed.json() == {"length": 500_000}
    number = control(pbx, "POST", "items", resource="contacts", firstname="Anna").json()["id"]
    assert client.data(f"contacts/{number}")["firstname"] == "Anna"


def test_a_paced_day_ends_in_real_time(pbx: Any) -> None:
    assert control(pbx, "POST", "day", name="demo", pace=0.001).ok
    assert pbx.day_done.wait(10)
    assert control(pbx, "GET", "day").json()["done"]
    assert control(pbx, "GET", "counts").json()["call_history"] == 8
    assert abs(pbx.clock.now().timestamp() - time.time()) < 60
