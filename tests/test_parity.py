"""The tables, the functions, the fixtures, the tests and the README name the same things."""

from __future__ import annotations

import ast
import json
import pathlib
import re

import pytest

from functions.background import ALL_CONSUMERS
from shared.events.table import EVENTS
from shared.pbx.resources import RESOURCES
from tests import indexed

ROOT = pathlib.Path(__file__).parents[1]
MOST_LINES = 40  # of a function, its docstring and blank lines included
WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]


def test_every_row_has_its_function() -> None:
    functions = {function.name for function in indexed.functions()}
    assert {f"On{event.name}" for event in WEBHOOKS} == {name for name in functions if name.startswith("On")}
    assert {consumer.function for consumer in ALL_CONSUMERS} <= functions
    assert {f"Drain{one.queue.capitalize()}Poison" for one in ALL_CONSUMERS} == {
        name for name in functions if name.startswith("Drain")
    }
    polled = {resource.function for resource in RESOURCES} | {"PollLostCalls"}
    assert polled == {name for name in functions if name.startswith("Poll")}


def test_every_webhook_has_a_fixture_and_no_fixture_is_left_over() -> None:
    fixtures = {path.stem: json.loads(path.read_text()) for path in (ROOT / "tests/fixtures/events").glob("*.json")}
    assert fixtures.keys() == {event.name for event in WEBHOOKS}
    assert all(payload["eventType"] == name for name, payload in fixtures.items())


def test_every_webhook_has_a_row_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for event in WEBHOOKS:
        assert re.search(rf"^\| `{event.name}` \|.*\|$", readme, re.MULTILINE), event.name


def test_every_poll_has_a_row_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for name, function, schedule in [(row.name, row.function, row.schedule) for row in RESOURCES]:
        assert re.search(rf"^\| {name} \| {function} \| `{schedule}` \|.*\|$", readme, re.MULTILINE), name


def test_shared_never_imports_the_functions_library() -> None:
    for path in (ROOT / "shared").rglob("*.py"):
        assert "azure.functions" not in path.read_text().replace("never imports azure.functions", ""), path.name


def test_no_event_and_no_resource_is_named_in_functions() -> None:
    names = [event.name for event in EVENTS] + [resource.name for resource in RESOURCES if "_" in resource.name]
    for path in (ROOT / "functions").glob("*.py"):
        text = path.read_text()
        assert not [name for name in names if name in text], path.name


@pytest.mark.parametrize(
    ("pattern", "limit"),
    [
        ("function_app.py", 20),
        ("functions/*.py", 120),
        ("shared/**/*.py", 400),
        ("dev/**/*.py", 400),
        ("board/**/*.py", 400),
    ],
)
def test_files_keep_their_size(pattern: str, limit: int) -> None:
    long = {path.name: lines for path in ROOT.glob(pattern) if (lines := len(path.read_text().splitlines())) > limit}
    assert not long


def test_functions_keep_their_size() -> None:
    paths = [path for room in ("functions", "shared", "dev") for path in (ROOT / room).rglob("*.py")]
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": lines
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES
    }
    assert paths
    assert not long
