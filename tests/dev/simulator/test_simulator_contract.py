"""The simulator offers all that the PBX's own definition names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dev.simulator.resources import EVENT, EVENTS, OPERATIONS, RESOURCES

DEFINITION = Path(__file__).parents[4] / "shared" / "pbx-api" / "apiDefinition.swagger.json"

pytestmark = pytest.mark.skipif(not DEFINITION.exists(), reason="the PBX's definition is not at hand")


def paths() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DEFINITION.read_text("utf-8"))["paths"]
    return loaded


def operations() -> dict[str, tuple[str, str, Any]]:
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in paths().items()
        for method, operation in methods.items()
        if method in ("get", "post", "delete", "put", "patch")
    }


def test_every_operation_has_its_method_and_path() -> None:
    assert {row.id: (row.method, row.path) for row in OPERATIONS} == {
        name: (method, path) for name, (method, path, _) in operations().items()
    }


def test_every_query_parameter_is_known() -> None:
    known = {row.id: set(row.parameters) for row in OPERATIONS}
    for name, (_, _, operation) in operations().items():
        named = {row["name"] for row in operation.get("parameters", []) if row["in"] == "query"}
        assert named == known[name], name


def assert_shape(value: Any, schema: Any, where: str) -> None:
    if "properties" in schema:
        assert isinstance(value, dict), where
        for name, part in schema["properties"].items():
            assert name in value, f"{where}.{name}"
            if value[name] is not None:
                assert_shape(value[name], part, f"{where}.{name}")
    elif schema.get("type") == "array":
        assert isinstance(value, list), where
        assert value, f"{where} is empty"
        assert_shape(value[0], schema["items"], f"{where}[0]")
    elif schema.get("type") in ("integer", "string"):
        assert isinstance(value, int if schema["type"] == "integer" else str), where


def fill(pbx: Any) -> dict[str, int]:
    contact = pbx.add_contact("Anna", "Bērziņa", "26550101")
    pbx.add_group("Pārdošana", [contact])
    for resource in ("voicemail_boxes", "audio_prompts", "voip_endpoints"):
        pbx.add(resource)
    pbx.call("27771153", at=-600, contact_id=contact, recorded=True)
    pbx.call("27771154", at=-500, contact_id=contact, talks=0, voicemail=True)
    return {row.path: next(iter(pbx.rows[row.path])) for row in RESOURCES}


def test_every_answer_has_the_properties_of_its_schema(pbx: Any, client: Any) -> None:
    ids = fill(pbx)
    for resource in RESOURCES:
        row = resource.row
        for name, path in (
            (row.list_operation, f"trigger/{row.name}"),
            (row.read_operation, f"{row.name}/{ids[row.name]}"),
        ):
            schema = operations()[name][2]["responses"]["200"]["schema"]
            assert_shape(client.get(path).json(), schema, name)
    schema = operations()["GetLostCalls"][2]["responses"]["200"]["schema"]
    assert_shape(client.get("lost_calls").json(), schema, "GetLostCalls")


def test_every_event_has_the_properties_of_its_schema() -> None:
    for row in EVENTS:
        shape = paths().get(f"/webhooks/{row.name}", {}).get("x-ms-notification-content")
        shape = shape or paths()["/webhooks"]["x-ms-notification-content"]
        named = set(shape["schema"]["properties"]["data"]["properties"])
        assert named == {*EVENT[row.name].fields, *EVENT[row.name].optional}, row.name
