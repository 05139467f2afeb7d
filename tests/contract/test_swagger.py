"""All that the certified connector's definition promises, ours promises too."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from shared.api.openapi.definition import definition
from tests.definitions import whole

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = pathlib.Path(__file__).parents[3] / "shared" / "pbx-api" / "apiDefinition.swagger.json"
pytestmark = pytest.mark.skipif(not PATH.exists(), reason="the certified definition is not here")

CERTIFIED: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {"paths": {}}
OURS = whole(definition("https", "localhost"))
METHODS = ("get", "post", "delete")

Row = tuple[str, str, dict[str, Any]]


def operations(of: dict[str, Any]) -> dict[str, Row]:
    return {
        operation["operationId"]: (path, method, operation)
        for path, methods in of["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


HERE = operations(OURS)
every_operation = pytest.mark.parametrize("name", operations(CERTIFIED))


def properties(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """Every property's path and type."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{at}.{name}", inner["type"]
        yield from properties(inner, f"{at}.{name}")
    if "items" in schema:
        yield from properties(schema["items"], f"{at}[]")


def test_the_paths_lie_where_the_certified_ones_do() -> None:
    assert OURS["basePath"].rstrip("/") == CERTIFIED["basePath"].rstrip("/")


@every_operation
def test_an_operation_has_its_path_and_method(name: str) -> None:
    path, method, _ = operations(CERTIFIED)[name]
    assert HERE[name][:2] == (path, method)


@every_operation
def test_an_operation_takes_what_it_took(name: str) -> None:
    theirs, ours = operations(CERTIFIED)[name][2], HERE[name][2]
    here = {(given["in"], given["name"]): given for given in ours["parameters"]}
    for given in theirs.get("parameters", []):
        mine = here[given["in"], given["name"]]
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
    taken = {(given["in"], given["name"]) for given in theirs.get("parameters", [])}
    assert not any(given["required"] for key, given in here.items() if key not in taken)


@every_operation
def test_an_operation_answers_what_it_answered(name: str) -> None:
    theirs, ours = operations(CERTIFIED)[name][2]["responses"], HERE[name][2]["responses"]
    if name not in {event for event in HERE if HERE[event][0] == f"/webhooks/{event}"}:
        assert theirs.keys() <= ours.keys()
    certified = next(theirs[status]["schema"] for status in theirs if status.startswith("2"))
    mine = next(ours[status]["schema"] for status in sorted(ours) if status.startswith("2"))
    assert set(properties(certified)) <= set(properties(mine))


@every_operation
def test_a_trigger_is_the_same_kind_of_trigger(name: str) -> None:
    theirs, ours = operations(CERTIFIED)[name][2], HERE[name][2]
    for key in ("x-ms-trigger", "x-ms-trigger-metadata"):
        assert ours.get(key) == theirs.get(key)


@pytest.mark.parametrize("path", [path for path, methods in CERTIFIED["paths"].items() if "post" in methods])
def test_an_event_carries_what_it_carried(path: str) -> None:
    content = CERTIFIED["paths"][path].get("x-ms-notification-content")
    if content is None:
        assert path == "/dial"
        return
    here = OURS["paths"][path]["x-ms-notification-content"]["schema"]
    assert set(properties(content["schema"])) <= set(properties(here))
