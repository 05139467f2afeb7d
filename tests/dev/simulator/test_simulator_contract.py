"""The simulator's answers have the shape of the PBX's own definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dev.simulator.resources import RESOURCES

DEFINITION = Path(__file__).parents[4] / "shared" / "pbx-api" / "apiDefinition.swagger.json"

pytestmark = pytest.mark.skipif(not DEFINITION.exists(), reason="the PBX's definition is not at hand")


def operations() -> dict[str, Any]:
    paths: dict[str, Any] = json.loads(DEFINITION.read_text("utf-8"))["paths"]
    return {
        operation["operationId"]: operation
        for methods in paths.values()
        for operation in methods.values()
        if "operationId" in operation
    }


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
    return {name: next(iter(pbx.rows[name])) for name in RESOURCES}


def test_every_answer_has_the_properties_of_its_schema(pbx: Any, client: Any) -> None:
    ids, schemas = fill(pbx), operations()
    for row in RESOURCES.values():
        for name, path in (
            (row.list_operation, f"trigger/{row.name}"),
            (row.read_operation, f"{row.name}/{ids[row.name]}"),
        ):
            schema = schemas[name]["responses"]["200"]["schema"]
            assert_shape(client.get(path).json(), schema, name)
    schema = schemas["GetLostCalls"]["responses"]["200"]["schema"]
    assert_shape(client.get("lost_calls").json(), schema, "GetLostCalls")
