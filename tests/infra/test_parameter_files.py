"""What the scripts read of a parameter file, against what the compiler makes of it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.infra.conftest import PBX_KEY
from tests.infra.template import INFRA, PARAMETER_FILES, built, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.conftest import Azure

SCRIPTS = "\n".join(file.read_text() for file in INFRA.glob("*.sh"))
# What they decide by; workflows are turned on under their files' names.
NAMES = {*re.findall(r"(?:read_parameter|is_on|text_of) ([a-z]\w+)", SCRIPTS)} | {
    file.stem for file in INFRA.glob("workflows/*.json")
}
# Each means deployNetwork = true, dataStorageSku = 'Standard_ZRS' and recordingImmutabilityDays = 30.
SPELLINGS = {
    "spaces": (
        "param  deployNetwork   =   true\n  param dataStorageSku='Standard_ZRS'\nparam recordingImmutabilityDays =30"
    ),
    "tabs": (
        "param\tdeployNetwork\t=\ttrue\nparam dataStorageSku =\t'Standard_ZRS'\t\nparam\trecordingImmutabilityDays=30"
    ),
    "line ends of Windows": (
        "param deployNetwork = true\r\nparam dataStorageSku = 'Standard_ZRS'\r\nparam recordingImmutabilityDays = 30\r"
    ),
    "comments": (
        "param /* a */ deployNetwork = /* false */ true // false\n/*\nparam deployNetwork = false\n*/\n"
        "// param dataStorageSku = 'Standard_LRS'\nparam dataStorageSku = 'Standard_ZRS' // '\n"
        "param tags = { a: 'it\\'s /*', b: '// b' }\nparam recordingImmutabilityDays = 30/**/"
    ),
    "texts of several lines": (
        "var text = '''\nparam deployNetwork = false\n// '''\nparam tags = { text: text }\n"
        "param deployNetwork = true\nparam dataStorageSku = 'Standard_ZRS'\nparam recordingImmutabilityDays = 30"
    ),
    "a file that it extends": (
        "extends 'base.bicepparam'\nparam dataStorageSku = 'Standard_ZRS'\nparam deployNetwork = true"
    ),
}
# Valid, and more than a plain word.
EXPRESSIONS = (
    "bool(readEnvironmentVariable('NETWORK', 'true'))",
    "!false",
    "(true)",
    "true\n  ? false\n  : true",
    "on",
    "base.deployNetwork",
)
TEMPLATE = """param deployNetwork bool
param dataStorageSku string
param recordingImmutabilityDays int
param tags object = {}
output all array = [deployNetwork, dataStorageSku, recordingImmutabilityDays, tags]
"""
BASE = "using none\nparam recordingImmutabilityDays = 30\nparam deployNetwork = false\n"


def read(file: Path, *names: str) -> dict[str, str]:
    """What the scripts take the parameters to be."""
    script = f"""
        source {INFRA}/azure.sh
        parameters={file}
        read_parameter_files
        for name in {" ".join(names)}; do read_parameter "$name"; printf '%s\\n' "$value"; done
    """
    done = subprocess.run(["bash", "-euc", script], check=True, capture_output=True, text=True)
    return dict(zip(names, done.stdout.split("\n"), strict=False))


def compiled(file: Path) -> dict[str, str]:
    """What the compiler takes the given ones to be, as the scripts write it."""
    done = run("build-params", file, "--stdout")
    assert done.returncode == 0, done.stderr
    given = json.loads(json.loads(done.stdout)["parametersJson"])["parameters"]
    return {name: text(row["value"]) for name, row in given.items()}


def text(value: object) -> str:
    """A value as a plain word."""
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A parameter file to be written, beside its template and one to extend."""
    (tmp_path / "main.bicep").write_text(TEMPLATE)
    (tmp_path / "base.bicepparam").write_text(BASE)
    return tmp_path / "own.bicepparam"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_valid_file_is_read_as_the_compiler_reads_it(file: Path, spelling: str) -> None:
    file.write_text(f"using 'main.bicep'\n{SPELLINGS[spelling]}\n")
    names = ("deployNetwork", "dataStorageSku", "recordingImmutabilityDays")
    assert read(file, *names) == {name: compiled(file)[name] for name in names}
    assert read(file, *names) == dict(zip(names, ("true", "Standard_ZRS", "30"), strict=True))


@pytest.mark.parametrize("file", PARAMETER_FILES, ids=lambda file: file.stem)
def test_defaults_are_those_of_the_template(file: Path) -> None:
    declared = built(INFRA / "main.bicep")["parameters"]
    expected = {name: text(declared[name].get("defaultValue", "")) for name in NAMES}
    assert len(NAMES) > 10
    assert read(file, *NAMES) == expected | {n: value for n, value in compiled(file).items() if n in NAMES}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_what_only_the_compiler_can_work_out_is_refused_before_anything_changes(azure: Azure, text: str) -> None:
    (azure.project / "infra" / "base.bicepparam").write_text(BASE)
    parameters = azure.project / "infra" / "own.bicepparam"
    extends = "extends 'base.bicepparam'" if "base." in text else ""
    parameters.write_text(
        f"using 'main.bicep'\n{extends}\nvar on = true\nparam tags = {{ on: string(on) }}\n"
        "param alertEmail = 'ops@contoso.com'\n"
    )
    for name in ("deployNetwork", "voicemailMail"):
        value = text.replace("deployNetwork", name)
        own = f"{parameters.read_text()}param deployLogicApps = true\nparam {name} = {value}\n"
        (azure.project / "infra" / f"{name}.bicepparam").write_text(own)
        failed = azure.deploy("-p", str(azure.project / "infra" / f"{name}.bicepparam"), PBX_API_KEY=PBX_KEY)
        assert failed.returncode == 1
        assert failed.stderr.startswith(f"error: {name} in ")
        assert "write its value there" in failed.stderr
        assert azure.changes() == []


def test_what_no_script_decides_by_may_be_any_expression(azure: Azure) -> None:
    azure.add_parameters(
        "param retentionMonths = int(readEnvironmentVariable('MONTHS', '12'))",
        "param crmUrl = readEnvironmentVariable('CRM_URL', '')",
        "param missedCallMail = bool('true')",
    )
    file = azure.project / "infra" / "main.bicepparam"
    mail = "param alertEmail = readEnvironmentVariable('MAIL', '')"
    file.write_text(re.sub(r"param alertEmail = .*", mail, file.read_text()))
    done = azure.deploy("--alert-email", "ops@contoso.com", PBX_API_KEY=PBX_KEY)
    assert done.returncode == 0, done.stderr
    # The file says what it is.
    assert not [call for call in azure.calls() if "retentionMonths=" in call]
    assert "alertEmail in " in azure.deploy(PBX_API_KEY=PBX_KEY).stderr


def test_a_network_is_a_network_however_it_is_written(azure: Azure) -> None:
    azure.add_parameters("param  deployNetwork =  true")
    assert azure.deploy(PBX_API_KEY=PBX_KEY).returncode == 0
    assert [call for call in azure.calls() if "closeDataAccount=true" in call]
    assert "Microsoft.Network is not registered" in azure.deploy(AZ_PROVIDERS=PROVIDERS).stderr


PROVIDERS = "App Insights KeyVault ManagedIdentity OperationalInsights Storage Web"
