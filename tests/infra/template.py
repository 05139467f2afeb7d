"""Evaluates the templates and the deployment of a parameter file with the Bicep compiler."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

INFRA = Path(__file__).parents[2] / "infra"
# The template reads the schedules from this file.
SCHEDULES = INFRA.parent / "local.settings.json.example"
BICEP_FILES = tuple(sorted(INFRA.rglob("*.bicep")))
PARAMETER_FILES = tuple(sorted(INFRA.glob("*.bicepparam")))
# A deployment with everything on.
EVERYTHING = Path(__file__).parent / "everything.bicepparam"

GROUP = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg"
_SCOPE = (
    *("--subscription-id", GROUP.split("/")[2], "--resource-group", GROUP.split("/")[4]),
    *("--tenant-id", "00000000-0000-0000-0000-000000000002", "--location", "westeurope"),
    *("--deployment-name", "bridge"),
)


@dataclass(frozen=True)
class Snapshot:
    """A deployment's resources with evaluated names and properties, and its outputs."""

    resources: tuple[dict[str, Any], ...]
    outputs: dict[str, Any]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the resources of a type, without those under them."""
        return [resource for resource in self.resources if resource["type"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        """Return the only resource of a type."""
        (resource,) = self.of(kind)
        return resource

    def last_names(self, kind: str) -> set[str]:
        """Names of the resources of a type, without their parents'."""
        return {str(resource["name"]).rsplit("/", maxsplit=1)[-1] for resource in self.of(kind)}

    def settings(self) -> dict[str, str]:
        kinds = self.of("Microsoft.Web/sites/config")
        (properties,) = (one["properties"] for one in kinds if one["name"].endswith("/appsettings"))
        return dict(properties)


def compiler() -> str:
    """Return the compiler that BICEP names, else bicep of the PATH. Without one the test fails; BICEP=skip skips it."""
    named = os.environ.get("BICEP")
    if named == "skip":
        pytest.skip("BICEP=skip: what needs the Bicep compiler is not tested")
    found = shutil.which(named or "bicep")
    if found is None:
        pytest.fail(
            f"no Bicep compiler at {named or 'bicep'}: put bicep on the PATH, name it in BICEP, or say BICEP=skip"
        )
    return found


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the compiler. It needs no ICU this way, and finds nothing to say where all is well."""
    environment = os.environ | {"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"}
    return subprocess.run(
        [compiler(), *map(str, arguments)], check=False, capture_output=True, text=True, env=environment
    )


class Answers:
    """Answers of the compiler, kept for all processes of one test run, so that it is asked once for each thing."""

    folder: Path | None = None

    def once(self, ask: Callable[[], dict[str, Any]], *about: str) -> dict[str, Any]:
        """Return the answer of ask(), or a kept one about the same with the same sources."""
        if self.folder is None:
            return ask()
        name = hashlib.sha256("\0".join((_sources(), *about)).encode()).hexdigest()
        file = self.folder / f"{name}.json"
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                made = file.with_suffix(".made")
                made.write_text(json.dumps(ask()))
                made.replace(file)
        answer: dict[str, Any] = json.loads(file.read_text())
        return answer


answers = Answers()


@cache
def _sources() -> str:
    """Return a hash of all that the compiler reads."""
    files = [*sorted(file for file in INFRA.rglob("*") if file.is_file()), SCHEDULES]
    return hashlib.sha256(b"\0".join(part for file in files for part in (bytes(file), file.read_bytes()))).hexdigest()


@cache
def built(file: Path) -> dict[str, Any]:
    """Return the ARM template of a Bicep file."""
    return answers.once(lambda: _build(file), "build", str(file))


def _build(file: Path) -> dict[str, Any]:
    done = run("build", file, "--stdout")
    assert done.returncode == 0, done.stderr
    template: dict[str, Any] = json.loads(done.stdout)
    return template


@cache
def snapshot(file: Path, *changes: tuple[str, str]) -> Snapshot:
    """Evaluate a deployment of a parameter file; changes are parameters with other values, as Bicep text."""
    text = file.read_text().replace("'../../infra/main.bicep'", "'main.bicep'")
    changed = dict(changes)
    kept = [line for line in text.splitlines() if not any(line.startswith(f"param {name} ") for name in changed)]
    asked = "\n".join(kept + [f"param {name} = {value}" for name, value in changed.items()]) + "\n"
    predicted = answers.once(lambda: _predict(asked), "snapshot", asked)
    assert not predicted["diagnostics"]
    return Snapshot(tuple(predicted["predictedResources"]), predicted["outputs"])


def _predict(parameters: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "infra")
        shutil.copytree(INFRA, copy)
        shutil.copy(SCHEDULES, folder)
        asked = copy / "asked.bicepparam"
        asked.write_text(parameters)
        done = run("snapshot", asked, *_SCOPE)
        assert done.returncode == 0, done.stderr
        predicted: dict[str, Any] = json.loads(asked.with_suffix(".snapshot.json").read_text())
    return predicted
