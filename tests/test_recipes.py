"""The recipes of CONTRIBUTING.md are complete: they are followed in a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.template import compiler
from tests.recipes import RECIPES

ROOT = Path(__file__).parents[1]
INSTALLED = (".venv", "node_modules")
LEFT_OUT = shutil.ignore_patterns(*INSTALLED, ".*cache", "__pycache__", ".git", ".azurite", "local.settings.json")
_SECTION = re.compile(r"^## (Add an? \w+)\n\n((?:\d\. .*\n|   .*\n)+)", re.MULTILINE)
SECTIONS = dict(_SECTION.findall((ROOT / "CONTRIBUTING.md").read_text()))
# Tests of everything derived from the tables, and of lists beside them.
DERIVED = (
    "tests/test_parity.py",
    "tests/test_connector.py::test_the_connector_s_definition_is_what_the_app_serves",
    "tests/dev/test_generated.py",
    "tests/dev/simulator/test_simulator_calls.py",
    "tests/functions/test_routes.py",
    "tests/functions/test_timers.py",
    "tests/shared/api/test_definition.py",
    "tests/shared/api/test_schemas_events.py",
    "tests/shared/events/test_table.py",
    "tests/shared/pbx/test_operations.py",
    "tests/shared/pbx/test_resources.py",
)

pytestmark = pytest.mark.xdist_group("recipes")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree in which somebody has followed all three."""
    copy = tmp_path_factory.mktemp("recipes") / "tree"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT, symlinks=True)
    for name in INSTALLED:
        (copy / name).symlink_to(ROOT / name)
    for steps in RECIPES.values():
        for step in steps:
            step.take(copy)
    run(copy, "-m", "dev.generated")
    return copy


def run(copy: Path, *arguments: str) -> str:
    """Run Python in the copy and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_names_each_file_that_it_takes_and_no_other(heading: str) -> None:
    named = set(re.findall(r"`([\w/]+(?:\.\w+|/))`", SECTIONS[heading]))
    taken = {step.path for step in RECIPES[heading]}
    assert {f"{Path(path).parent}/" if path.startswith("tests/") else path for path in taken} == named
    assert "`make generated`" in SECTIONS[heading]


def test_there_is_no_recipe_that_nobody_follows_here() -> None:
    assert SECTIONS.keys() == RECIPES.keys()


def test_events_resources_and_actions_of_the_recipes_go_all_the_way(followed: Path, connection_string: str) -> None:
    assert "knows the new rows" in run(followed, "-m", "tests.after_recipes", connection_string)


@pytest.mark.slow
def test_what_is_derived_from_the_tables_holds_with_the_recipes_followed(followed: Path) -> None:
    run(followed, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *DERIVED)


def test_the_templates_hold_with_the_recipes_followed(followed: Path) -> None:
    compiler()
    run(followed, "-m", "tests.infra.docs")
