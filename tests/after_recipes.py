"""
Check everything derived from tables, in a copy of the tree with the recipes' rows.

tests/test_recipes.py runs it there as `python -m tests.after_recipes CONNECTION_STRING`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import requests

from dev.connector import properties_text
from dev.host.http import first_match
from dev.simulator import Simulator
from shared.api.actions import act
from shared.api.definition import definition
from shared.api.operations import ACTIONS
from shared.api.parameters import Request
from shared.events.event import accept
from shared.events.table import event_named
from shared.items import store
from shared.pbx.resources import resource
from shared.polling.poll import poll
from shared.settings import Settings
from tests.indexed import functions, hosted
from tests.polls import bridge_to, run_pipeline


def check_functions() -> None:
    """Check that each row has its functions, on paths of its own."""
    names = {one.name for one in functions()}
    assert {"OnFaxReceived", "PollFaxMachines", "GetFaxMachines", "GetFaxMachineByID", "RestartFaxMachine"} <= names
    for method, path, name in (
        ("POST", "/api/events/FaxReceived", "OnFaxReceived"),
        ("GET", "/api/v2/trigger/fax_machines", "GetFaxMachines"),
        ("GET", "/api/v2/fax_machines/7", "GetFaxMachineByID"),
        ("POST", "/api/v2/fax_machines/7/restart", "RestartFaxMachine"),
    ):
        assert first_match(hosted(), method, path) == name, path


def check_definition() -> None:
    """Check that the definition and the connector have each row."""
    paths = definition("https", "example.org")["paths"]
    for path in ("/webhooks/FaxReceived", "/webhooks/FaxMachineUpdated", "/trigger/fax_machines"):
        assert path in paths, path
    assert paths["/fax_machines/{machine_id}/restart"]["post"]["operationId"] == "RestartFaxMachine"
    assert "GetFaxMachines" in properties_text()


def check_way_through(connection_string: str) -> None:
    """Poll an item from the simulator, accept an event, pass an action on and subscribe."""
    with Simulator() as pbx:
        environment = {"DataStorage": connection_string, "PBX_BASE_URL": pbx.base_url, "PBX_API_KEY": pbx.api_key}
        bridge = bridge_to(pbx, Settings.from_env(environment | {"POLL_START": "all"}))
        bridge.storage.ready()
        number = pbx.add("fax_machines", name="Birojs")
        poll(bridge, resource("fax_machines"))
        stored = store.get(bridge.storage, "fax_machines", number)
        assert stored is not None
        assert stored["name"] == "Birojs"
        body = json.dumps({"eventType": "faxreceivedevent", "data": {"callID": "7", "pages": ""}}).encode()
        accept(bridge, event_named("FaxReceived"), body)
        queued: list[dict[str, Any]] = run_pipeline(bridge)
        assert {message["event"] for message in queued} == {"FaxMachineCreated", "FaxReceived"}
        action = next(row for row in ACTIONS if row.id == "RestartFaxMachine")
        assert act(bridge, action, Request(path={"machine_id": str(number)}))["statusCode"] == 200
        made = requests.post(
            f"{pbx.base_url}webhooks/FaxReceived",
            json={"endpoint": "http://127.0.0.1:9/"},
            headers={"Authorization": f"Bearer {pbx.api_key}"},
            timeout=10,
        )
        assert made.status_code == 200


if __name__ == "__main__":
    check_functions()
    check_definition()
    check_way_through(sys.argv[1])
    sys.stdout.write("all that follows from the tables knows the new rows\n")
