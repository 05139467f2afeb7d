"""
A row of each kind, added in memory before anything reads the tables, and a walk through all that follows from them.

tests/test_recipes.py runs it as `python -m tests.recipes CONNECTION_STRING`: modules read the tables when they load.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import requests

from shared import settings
from shared.pbx import operations, resources
from shared.pbx.fields import Field
from shared.pbx.operation import Operation, Parameter
from shared.pbx.resources import Resource
from shared.settings import Setting

_ITEM = (Field("faxID", "integer", "Unique ID of the fax machine."), Field("name", "string", "Name of the machine."))
_OWN = Parameter(name="fax_id", title="Fax ID", description="Unique ID of the fax machine.")
_IN_PATH = Parameter(
    name="fax_id", title="Fax ID", where="path", required=True, description="Unique ID of the machine."
)
_CURSOR = Parameter(
    name="initial_fax_id", title="Initial Fax ID", required=True, default=0, visibility="internal", description="Above."
)
_SCHEDULE = Setting(name="POLL_FAX_MACHINES_SCHEDULE", default="0 * * * * *", description="Polls.", read_by_host=True)
_OPERATIONS = (
    Operation(
        id="GetFaxMachines",
        path="trigger/fax_machines",
        parameters=(_OWN, _CURSOR, *operations._PAGE),
        summary="List fax machines",
        description="Brings each new fax machine.",
        lists=True,
        item=_ITEM,
    ),
    Operation(
        id="GetFaxMachineByID",
        path="fax_machines/{fax_id}",
        parameters=(_IN_PATH,),
        summary="Get fax machine by ID",
        description="Brings one fax machine.",
        item=_ITEM,
    ),
    Operation(
        id="RestartFaxMachine",
        method="POST",
        path="fax_machines/{fax_id}/restart",
        parameters=(_IN_PATH,),
        summary="Restart a fax machine",
        description="Has the machine begin again.",
    ),
)
_RESOURCE = Resource(
    name="fax_machines",
    noun="FaxMachine",
    list_operation="GetFaxMachines",
    read_operation="GetFaxMachineByID",
    id_field="faxID",
    id_parameter="fax_id",
    editable=True,
)


def add_rows() -> None:
    """Put the rows into the tables, each before the tables that read it are loaded."""
    settings.SETTINGS += (_SCHEDULE,)
    operations.OPERATIONS += _OPERATIONS
    operations._BY_ID.update({row.id: row for row in _OPERATIONS})
    resources.RESOURCES += (_RESOURCE,)
    resources._BY_NAME[_RESOURCE.name] = _RESOURCE
    from shared.events import table

    event = table.Event(
        name="FaxReceived", carries="Recording", key=("recordingID",), description="A fax has been received."
    )
    table.EVENTS += (event,)
    table._SPELLINGS.update(table._spellings((event,)))


def check_functions() -> None:
    """Each row has its functions, on paths of its own."""
    from dev.host.routes import first_match
    from tests.indexed import functions, hosted

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
    """The definition and the connector have each row, and are valid with it."""
    from openapi_spec_validator import OpenAPIV2SpecValidator, validate

    from dev.connector import properties_text
    from shared.api.openapi.definition import definition

    described = json.loads(json.dumps(definition("https", "example.org")))
    validate(described, cls=OpenAPIV2SpecValidator)
    paths = described["paths"]
    for path in ("/webhooks/FaxReceived", "/webhooks/FaxMachineUpdated", "/trigger/fax_machines"):
        assert path in paths, path
    assert paths["/fax_machines/{fax_id}/restart"]["post"]["operationId"] == "RestartFaxMachine"
    assert "GetFaxMachines" in properties_text()


def check_way_through(connection_string: str) -> None:
    """The simulator serves the rows, a poll stores and announces an item, an event is taken, an action is passed on."""
    from dev.simulator import Simulator
    from shared.api.actions import ACTIONS, act
    from shared.api.parameters import Given
    from shared.events.receive import accept
    from shared.events.table import event_named
    from shared.items import reader
    from shared.polling.poll import poll
    from shared.settings import Settings
    from tests.polls import bridge_to, run_pipeline

    with Simulator() as pbx:
        environment = {"DataStorage": connection_string, "PBX_BASE_URL": pbx.base_url, "PBX_API_KEY": pbx.api_key}
        bridge = bridge_to(pbx, Settings.from_env(environment | {"POLL_START": "all"}))
        bridge.storage.create_all()
        number = pbx.add("fax_machines", name="Birojs")
        poll(bridge, _RESOURCE)
        stored = reader.get(bridge.storage, "fax_machines", number)
        assert stored is not None
        assert stored["name"] == "Birojs"
        body = json.dumps({"eventType": "faxreceivedevent", "data": {"recordingID": 7}}).encode()
        accept(bridge.storage, bridge.settings, event_named("FaxReceived"), body)
        queued: list[dict[str, Any]] = run_pipeline(bridge)
        assert {message["event"] for message in queued} == {"FaxMachineCreated", "FaxReceived"}
        action = next(row for row in ACTIONS if row.id == "RestartFaxMachine")
        assert act(bridge, action, Given(path={"fax_id": str(number)}), {})["statusCode"] == 200
        made = requests.post(
            f"{pbx.base_url}webhooks/FaxReceived",
            json={"endpoint": "http://127.0.0.1:9/"},
            headers={"Authorization": f"Bearer {pbx.api_key}"},
            timeout=10,
        )
        assert made.status_code == 200


if __name__ == "__main__":
    add_rows()
    check_functions()
    check_definition()
    check_way_through(sys.argv[1])
    sys.stdout.write("all that follows from the tables knows the new rows\n")
