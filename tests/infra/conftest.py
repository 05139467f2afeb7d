"""A project with the scripts in it, and stand-ins for az and curl that they run against."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.infra.template import INFRA, answers, compiler

PBX_KEY, CRM_HEADER = "key-from-the-panel", "Bearer text"
EVERYTHING = (
    "param deployNetwork = true",
    "param recordingImmutabilityDays = 365",
    "param deployLogicApps = true",
    "param missedCallMail = true",
    "param newContactCrm = true",
)
# Listing keys is a POST that changes nothing.
CHANGES = re.compile(
    r" (create|set|update|recover|config-zip) |resource delete|--method (put|delete)|/refresh|--request (POST|DELETE)"
)
STAND_IN = Path(__file__).parent / "stand_in"
_CODE = (
    "function_app.py",
    "host.json",
    "requirements.txt",
    "board/board.css",
    "functions/receivers.py",
    "shared/values.py",
)
_LEFT_OUT = ("local.settings.json", "tests/test_events.py", "shared/__pycache__/events.pyc", "dev/host.py")


@dataclass(frozen=True)
class Azure:
    """The stand-in's state, and the scripts run against it."""

    project: Path
    state: Path

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of infra/ to its end; `environment` is added to its environment."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AZ", "PBX_", "CRM_"))}
        own = {
            "PATH": f"{STAND_IN}:{os.environ['PATH']}",
            "AZ_STATE": str(self.state),
            "BICEP": compiler(),
            "BICEP_ANSWERS": str(answers.folder),
            "RETRY_SECONDS": "0",
        }
        return subprocess.run(
            [self.project / "infra" / script, *arguments],
            env=inherited | own | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def deploy(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run deploy.sh on group rg in westeurope."""
        return self.run("deploy.sh", "-g", "rg", "-l", "westeurope", *arguments, **environment)

    def calls(self) -> list[str]:
        """Calls of az and curl since the last time this was asked."""
        file = self.state / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def add_parameters(self, *lines: str) -> None:
        """Write lines at the end of the parameter file."""
        file = self.project / "infra" / "main.bicepparam"
        file.write_text("\n".join([file.read_text(), *lines, ""]))

    def changes(self) -> list[str]:
        """Calls that change something, since the last time calls were asked for."""
        return [call for call in self.calls() if CHANGES.search(call)]

    def files(self, folder: str) -> dict[str, str]:
        """Return the content of each file in a folder of the state, by name."""
        return {file.name: file.read_text() for file in sorted((self.state / folder).glob("*"))}


def fresh(folder: Path, *parameters: str) -> Azure:
    """Make an Azure without anything in it, and a project with these lines of parameters to deploy there."""
    project, state = folder / "project", folder / "state"
    for name in ("secrets", "keys"):
        (state / name).mkdir(parents=True)
    shutil.copytree(INFRA, project / "infra")
    # The scripts need the parameters alone, which compile in a third of the time.
    template = project / "infra" / "main.bicep"
    template.write_text(template.read_text().partition("// destroy.sh finds")[0])
    (project / "infra" / "bicepconfig.json").unlink()
    azure = Azure(project=project, state=state)
    azure.add_parameters("param alertEmail = 'operations@contoso.com'", *parameters)
    for name in (*_CODE, *_LEFT_OUT):
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name}\n")
    return azure


@pytest.fixture(scope="session", autouse=True)
def shared_answers(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the compiler's answers in one folder for all workers; each has its own folder below the run's."""
    root = tmp_path_factory.getbasetemp()
    answers.folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "bicep"
    answers.folder.mkdir(exist_ok=True)


@pytest.fixture
def azure(tmp_path: Path) -> Azure:
    return fresh(tmp_path)


@dataclass(frozen=True)
class FirstRun:
    """A first deployment, to look at and to copy: the Azure that it left, its output, its calls."""

    azure: Azure
    output: str
    calls: list[str]

    def copy(self, folder: Path) -> Azure:
        """Copy the deployed bridge for a test of its own."""
        shutil.copytree(self.azure.project.parent, folder, dirs_exist_ok=True)
        return Azure(project=folder / "project", state=folder / "state")


def deploy_first(azure: Azure) -> FirstRun:
    """Deploy with all keys that a person may bring."""
    done = azure.deploy(PBX_API_KEY=PBX_KEY, CRM_AUTHORIZATION=CRM_HEADER)
    assert done.returncode == 0, done.stderr
    (azure.state / "registered").write_text("2026-01-01T00:00:00.000000Z\n")
    return FirstRun(azure, done.stdout + done.stderr, azure.calls())


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """Deploy with the parameters of main.bicepparam."""
    return deploy_first(fresh(tmp_path_factory.mktemp("deployed")))


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """Deploy all that there is to choose."""
    return deploy_first(fresh(tmp_path_factory.mktemp("everything"), *EVERYTHING))


@pytest.fixture
def bridge(first_run: FirstRun, tmp_path: Path) -> Azure:
    return first_run.copy(tmp_path)


@pytest.fixture
def full_bridge(full_run: FirstRun, tmp_path: Path) -> Azure:
    """A deployed bridge with all that there is to choose."""
    return full_run.copy(tmp_path)
