"""A typed client is generated from the definition, compiles strictly, and works."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from dev.stored import put
from shared.api.definition import definition
from tests.apps import KEY, RunningApp, running_app

ROOT = pathlib.Path(__file__).parents[1]
MODULES = ROOT / "node_modules"
TOOLS = {name: MODULES / ".bin" / name for name in ("swagger2openapi", "openapi-typescript", "tsc")}
STRICT = ("--strict", "--exactOptionalPropertyTypes", "--noUncheckedSideEffectImports")
MODERN = ("--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2022,dom")
ANNA = {"contactID": 966, "firstname": "Anna", "lastname": "Bērziņa", "number": "26550101"}
OPERATIONS = (
    "ListContacts",
    "GetContacts",
    "GetContactsByID",
    "ListCallHistory",
    "GetGroups",
    "GetLostCalls",
    "Dial",
    "CallStarted",
    "GetSubscriptions",
    "GetEvents",
    "Unsubscribe",
    "DeleteWebhookByID",
)

pytestmark = [
    pytest.mark.xdist_group("client"),
    pytest.mark.skipif(
        not os.environ.get("CI") and not all(tool.exists() for tool in TOOLS.values()),
        reason="no generator here: npm ci brings it, and CI has to have it",
    ),
]


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(new_account(), tmp_path_factory.mktemp("client")) as running:
        running.pbx.add("contacts", 966, firstname="Anna")
        put(running.storage, "contacts", ANNA)
        yield running


def run(*command: str, cwd: pathlib.Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a directory with the program, compiled with the generated client."""
    directory = tmp_path_factory.mktemp("generated")
    (directory / "node_modules").symlink_to(MODULES)
    (directory / "package.json").write_text('{"type": "module"}')
    (directory / "definition.json").write_text(json.dumps(definition("https", "localhost")))
    run(str(TOOLS["swagger2openapi"]), "definition.json", "-o", "openapi.json", cwd=directory)
    run(str(TOOLS["openapi-typescript"]), "openapi.json", "-o", "api.d.ts", cwd=directory)
    shutil.copy(ROOT / "tests" / "client" / "flow.ts", directory)
    run(str(TOOLS["tsc"]), *STRICT, *MODERN, "flow.ts", cwd=directory)
    return directory


@pytest.mark.slow
def test_the_client_has_a_type_of_its_own_name_for_each_schema(client: pathlib.Path) -> None:
    generated = (client / "api.d.ts").read_text()
    for name in definition("https", "localhost")["definitions"]:
        assert f"        {name}: " in generated


@pytest.mark.slow
def test_a_program_works_through_the_client(client: pathlib.Path, running: RunningApp) -> None:
    output = run("node", "flow.js", f"{running.url}/api/v2", KEY, cwd=client)
    done = dict(line.split() for line in output.splitlines())
    assert done.pop("refused") == "destination"
    assert tuple(done) == OPERATIONS
    assert set(done.values()) == {"200", "201"}
    assert running.rings() == 1
