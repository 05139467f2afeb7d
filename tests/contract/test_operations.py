"""Operations and the definition against the certified connector's definition, if its file is present."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from shared.api.definition import definition
from shared.events.table import EVENTS
from shared.pbx.fields import ENVELOPE, Field
from shared.pbx.operations import OPERATIONS, Operation, operation
from tests.definitions import whole

PATH = pathlib.Path(__file__).parents[3] / "shared" / "pbx-api" / "apiDefinition.swagger.json"
pytestmark = pytest.mark.skipif(not PATH.exists(), reason="the certified definition is not at hand")

CERTIFIED: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {"paths": {}}
OURS = whole(definition("https", "localhost"))
EVENT_NAMES = {event.name for event in EVENTS}

Described = tuple[str, str, dict[str, Any]]


def operations(of: dict[str, Any]) -> dict[str, Described]:
    """Return path, method and operation of a definition by operationId."""
    return {
        one["operationId"]: (path, method, one)
        for path, methods in of["paths"].items()
        for method, one in methods.items()
        if "operationId" in one
    }


THEIRS, HERE = operations(CERTIFIED), operations(OURS)
each_operation = pytest.mark.parametrize("name", THEIRS)


def row(name: str) -> Operation:
    return operation("Subscribe" if name in EVENT_NAMES else name)


def success(one: dict[str, Any]) -> dict[str, Any]:
    responses = one["responses"]
    return dict(next(responses[status]["schema"] for status in sorted(responses) if status.startswith("2")))


def taken(one: dict[str, Any]) -> set[tuple[str, str, str, bool, Any]]:
    """Return name, place, type, whether required, and default of each parameter; a body counts field by field."""
    found = set()
    for given in one["parameters"]:
        if given["in"] == "body":
            schema = given["schema"]
            for name, kind in schema["properties"].items():
                found.add((name, "body", kind["type"], name in schema["required"], None))
        else:
            kind = "date-time" if given.get("format") == "date-time" else given["type"]
            found.add((given["name"], given["in"], kind, given["required"], given.get("default")))
    return found


def properties(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """Every property's path and type."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{at}.{name}", inner["type"]
        yield from properties(inner, f"{at}.{name}")
    if "items" in schema:
        yield from properties(schema["items"], f"{at}[]")


def fields(shape: Iterable[Field], at: str = "") -> Iterator[tuple[str, str]]:
    for field in shape:
        yield f"{at}.{field.name}", "string" if field.type == "date-time" else field.type
        yield from fields(field.fields, f"{at}.{field.name}[]")


def test_every_operation_is_in_the_definition() -> None:
    assert {row(name).id for name in THEIRS} == {one.id for one in OPERATIONS}
    assert OURS["basePath"].rstrip("/") == CERTIFIED["basePath"].rstrip("/")


@each_operation
def test_a_row_has_the_path_the_parameters_and_the_answer_of_its_operation(name: str) -> None:
    path, method, one = THEIRS[name]
    ours = row(name)
    assert (f"/{ours.path.replace('{event}', name)}", ours.method.lower()) == (path, method)
    assert {
        (given.name, given.where, given.type, given.required, given.default)
        for given in ours.parameters
        if given.name != "event"
    } == taken(one)
    answer = set(properties(success(one)))
    (data,) = (kind for at, kind in answer if at == ".data")
    inside = fields(ours.item, ".data[]" if data == "array" else ".data")
    assert answer == {*fields(ENVELOPE), (".data", data), *inside}
    assert not ours.item or ours.lists == (data == "array")


@each_operation
def test_an_operation_keeps_its_path_and_parameters(name: str) -> None:
    theirs, ours = THEIRS[name][2], HERE[name][2]
    assert HERE[name][:2] == THEIRS[name][:2]
    here = {(given["in"], given["name"]): given for given in ours["parameters"]}
    for given in theirs["parameters"]:
        mine = here.pop((given["in"], given["name"]))
        if given["in"] == "body":
            assert set(properties(given["schema"])) <= set(properties(mine["schema"]))
            assert set(mine["schema"]["required"]) <= set(given["schema"]["required"])
            continue
        # Our subscriptions have ids that cannot be guessed.
        assert mine["type"] == ("string" if given["name"] == "webhook_id" else given["type"])
        assert mine.get("default") == given.get("default")
        assert given["required"] or not mine["required"]
        if given["in"] != "path":
            assert mine.get("format", "").replace("int64", "") == given.get("format", "")
    assert not any(given["required"] for given in here.values())


@each_operation
def test_an_operation_keeps_its_answer_and_kind_of_trigger(name: str) -> None:
    theirs, ours = THEIRS[name][2], HERE[name][2]
    assert name in EVENT_NAMES or theirs["responses"].keys() <= ours["responses"].keys()
    assert set(properties(success(theirs))) <= set(properties(success(ours)))
    for key in ("x-ms-trigger", "x-ms-trigger-metadata"):
        assert ours.get(key) == theirs.get(key)


@pytest.mark.parametrize("path", [path for path, methods in CERTIFIED["paths"].items() if "post" in methods])
def test_an_event_keeps_its_fields(path: str) -> None:
    content = CERTIFIED["paths"][path].get("x-ms-notification-content")
    if content is None:
        assert path == "/dial"
        return
    here = OURS["paths"][path]["x-ms-notification-content"]["schema"]
    assert set(properties(content["schema"])) <= set(properties(here))
