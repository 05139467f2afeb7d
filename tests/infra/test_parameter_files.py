"""Parameter files, read as the compiler evaluates them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.infra.conftest import PBX_KEY
from tests.infra.template import INFRA, compiler

if TYPE_CHECKING:
    from tests.infra.conftest import Azure

TEMPLATE = """param deployNetwork bool = false
param dataStorageSku string = 'Standard_LRS'
param recordingImmutabilityDays int?
"""
FILE = """using 'main.bicep'
extends 'base.bicepparam'
/* param deployNetwork = false */
var text = '''
param deployNetwork = false
'''
param deployNetwork = !contains(text, 'nothing')
param recordingImmutabilityDays = int(readEnvironmentVariable('DAYS', '30'))
"""
BASE = "using none\nparam deployNetwork = false\n"


@pytest.mark.parametrize("through", ["bicep", "az"])
def test_any_valid_file_is_evaluated(tmp_path: Path, through: str) -> None:
    for name, text in {"main.bicep": TEMPLATE, "base.bicepparam": BASE, "own.bicepparam": FILE}.items():
        (tmp_path / name).write_text(text)
    tools = tmp_path / "bin"
    tools.mkdir()
    call = f'exec {compiler()} build-params "${{{4 if through == "az" else 2}}}" --stdout'
    (tools / through).write_text(f"#!/bin/sh\n{call}\n")
    (tools / through).chmod(0o755)
    script = f"""
        PATH={tools}:/usr/bin:/bin
        source {INFRA}/azure.sh
        parameters={tmp_path}/own.bicepparam
        read_parameters
        for name in deployNetwork dataStorageSku recordingImmutabilityDays; do value_of "$name"; done
        jq -e '.given | has("deployNetwork") and (has("dataStorageSku") | not)' "$scratch/parameters"
    """
    done = subprocess.run(["bash", "-euc", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["true", "Standard_LRS", "30", "true"]


def test_values_from_expressions_count(azure: Azure) -> None:
    azure.add_parameters("param retentionMonths = int(readEnvironmentVariable('MONTHS', '12'))")
    file = azure.project / "infra" / "main.bicepparam"
    mail = "param alertEmail = readEnvironmentVariable('MAIL', '')"
    file.write_text(re.sub(r"param alertEmail = .*", mail, file.read_text()))
    assert "--alert-email" in azure.deploy(PBX_API_KEY=PBX_KEY).stderr
    done = azure.deploy(PBX_API_KEY=PBX_KEY, MAIL="ops@contoso.com")
    assert done.returncode == 0, done.stderr
    # The file has it.
    assert not [call for call in azure.calls() if "retentionMonths=" in call]


def test_a_network_is_a_network_however_it_is_written(azure: Azure) -> None:
    azure.add_parameters("param  deployNetwork =  true")
    assert azure.deploy(PBX_API_KEY=PBX_KEY).returncode == 0
    assert [call for call in azure.calls() if "closeDataAccount=true" in call]
    assert "Microsoft.Network is not registered" in azure.deploy(AZ_UNREGISTERED="Logic Network").stderr


def test_the_compilers_errors_are_printed(azure: Azure) -> None:
    azure.add_parameters("param nonsense = 1")
    failed = azure.deploy(PBX_API_KEY=PBX_KEY)
    assert "nonsense" in failed.stderr
    assert "does not compile: see above" in failed.stderr
    assert azure.calls() == []
