"""The operations against the certified connector's definition, where that is at hand."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from shared.events.table import EVENTS
from shared.pbx.fields import ENVELOPE, Field
from shared.pbx.operations import OPERATIONS, operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from shared.pbx.operations import Operation

DEFINITION = pathlib.Path(__file__).parents[3] / "shared" / "pbx-api" / "apiDefinition.swagger.json"
pytestmark = pytest.mark.skipif(not DEFINITION.exists(), reason="the certified definition is not at hand")

WEBHOOKS = {event.name for event in EVENTS if event.source == "pbx"}


def described() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every (path, method, operation) of the definition."""
    if DEFINITION.exists():
        for path, methods in json.loads(DEFINITION.read_text())["paths"].items():
            for method, definition in methods.items():
                if "operationId" in definition:
                    yield path.lstrip("/"), method.upper(), definition


CASES = [
    pytest.param(path, method, definition, id=definition["operationId"]) for path, method, definition in described()
]


def ours(definition: Mapping[str, Any]) -> Operation:
    return operation("Subscribe" if definition["operationId"] in WEBHOOKS else definition["operationId"])


def swagger_type(type: str) -> str:
    return "string" if type == "date-time" else type


def parameters(definition: Mapping[str, Any]) -> set[tuple[str, str, str, bool, Any]]:
    """Name, place, type, whether required, and default of each; a body counts field by field."""
    rows = set()
    for row in definition["parameters"]:
        if row["in"] == "body":
            schema = row["schema"]
            rows |= {
                (name, "body", kind["type"], name in schema["required"], None)
                for name, kind in schema["properties"].items()
            }
        else:
            kind = "date-time" if row.get("format") == "date-time" else row["type"]
            rows.add((row["name"], row["in"], kind, row["required"], row.get("default")))
    return rows


def properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a schema: name to type and, inside arrays and objects, the same again."""
    inner = schema.get("items", schema).get("properties", {})
    return {name: (row["type"], properties(row)) for name, row in inner.items()}


def tree(fields: Iterable[Field]) -> dict[str, Any]:
    return {field.name: (swagger_type(field.type), tree(field.fields)) for field in fields}


@pytest.mark.parametrize(("path", "method", "definition"), CASES)
def test_method_and_path_are_the_definitions(path: str, method: str, definition: Mapping[str, Any]) -> None:
    row = ours(definition)
    assert (row.method, row.path.replace("{event}", definition["operationId"])) == (method, path)


@pytest.mark.parametrize(("path", "method", "definition"), CASES)
def test_parameters_are_the_definitions(path: str, method: str, definition: Mapping[str, Any]) -> None:
    row = ours(definition)
    mine = {
        (parameter.name, parameter.where, parameter.type, parameter.required, parameter.default)
        for parameter in row.parameters
        if parameter.name != "event"
    }
    assert mine == parameters(definition)


@pytest.mark.parametrize(("path", "method", "definition"), CASES)
def test_answers_hold_the_definitions_properties(path: str, method: str, definition: Mapping[str, Any]) -> None:
    row = ours(definition)
    answer = properties(definition["responses"]["200"]["schema"])
    kind, data = answer.pop("data")
    assert answer == tree(ENVELOPE)
    assert data == tree(row.item)
    if row.item:
        assert row.lists == (kind == "array")


def test_every_operation_is_in_the_definition() -> None:
    assert {ours(definition).id for _, _, definition in described()} == {row.id for row in OPERATIONS}
