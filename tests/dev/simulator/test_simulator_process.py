"""The simulator in a process of its own, changed through its control routes."""

from __future__ import annotations

from typing import Any

import requests

from dev.simulator import SimulatorProcess
from tests.waiting import until


def test_a_process_serves_and_is_changed_by_http() -> None:
    with SimulatorProcess("other-key") as pbx:

        def item(path: str) -> Any:
            headers = {"Authorization": "Bearer other-key"}
            return requests.get(pbx.base_url + path, headers=headers, timeout=5).json()["data"]

        assert pbx.control("POST", "bulk", resource="groups", count=7)["count"] == len(item("trigger/groups")) == 7
        call = pbx.control("POST", "calls", caller="27771153", destination="67000123", recorded=True, at=-90)
        assert item(f"call_history/{call['id']}")["caller"] == "27771153"
        changed = pbx.control("POST", "files", resource="call_records", id=call["recording_id"], size=500_000)
        assert changed == {"length": 500_000}
        number = pbx.control("POST", "items", resource="contacts", firstname="Anna")["id"]
        assert item(f"contacts/{number}")["firstname"] == "Anna"
        pbx.control("POST", "day", pace=0.001)
        until(lambda: pbx.control("GET", "day")["done"], 30)
        assert pbx.control("GET", "counts")["call_history"] == 10
