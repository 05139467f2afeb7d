"""snapshotDifference.sh with the real compiler."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.infra.template import INFRA, SCHEDULES, compiler

# A small template that uses a parameter, a default and the schedules.
TEMPLATE = """param name string
param days int = 30
resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: 'westeurope'
  sku: { name: 'Standard_LRS' }
  kind: 'StorageV2'
  tags: { days: string(days), schedule: loadJsonContent('../local.settings.json.example').schedule }
}
"""


def difference(before: Path, now: Path) -> str:
    environment = os.environ | {"BICEP": compiler(), "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"}
    script = [INFRA.parent / ".github" / "snapshotDifference.sh", before, now]
    done = subprocess.run(script, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(shown: str) -> list[str]:
    """Return the changed lines, without the names of the sides."""
    return re.findall(r"^[-+] .*", shown, re.MULTILINE)


def folder(path: Path, template: str = TEMPLATE, **files: str) -> Path:
    """Make a folder with a template, and files of parameters by name."""
    path /= "infra"
    path.mkdir(parents=True)
    (path.parent / SCHEDULES.name).write_text('{"schedule": ""}')
    (path / "main.bicep").write_text(template)
    for name, text in files.items():
        (path / f"{name}.bicepparam").write_text(f"using 'main.bicep'\n{text}\n")
    return path


def test_changes_are_shown_for_each_file(tmp_path: Path) -> None:
    before = folder(tmp_path / "before", a="param name = 'one'", same="param name = 'same'")
    now = folder(
        tmp_path / "now", a="param name = 'one'\nparam days = 31", b="param name = 'two'", same="param name = 'same'"
    )
    for side, schedule in (("before", "5"), ("now", "7")):
        (tmp_path / side / SCHEDULES.name).write_text(f'{{"schedule": "{schedule} * * * * *"}}')
    shown = dict(
        re.findall(r"^### (\w+)\.bicepparam\n(.*?)(?=^###|\Z)", difference(before, now), re.MULTILINE | re.DOTALL)
    )
    assert shown["a"].startswith("\n```diff\n--- before\n+++ now\n")
    rows = {line.replace(" ", "").strip(",") for line in lines(shown["a"])}
    assert rows == {'-"days":"30"', '+"days":"31"', '-"schedule":"5*****"', '+"schedule":"7*****"'}
    # A new file, and one of which only the schedule beside the folder has changed.
    assert '"two"' in shown["b"]
    assert not [line for line in lines(shown["b"]) if line.startswith("-")]
    assert len(lines(shown["same"])) == 2
    assert "Nothing changes." in difference(now, now)


def test_an_invalid_base_is_empty_and_an_invalid_change_fails(tmp_path: Path) -> None:
    wrong = folder(tmp_path / "wrong", "no template", a="param name = 'one'")
    right = folder(tmp_path / "right", a="param name = 'one'")
    shown = lines(difference(wrong, right))
    assert shown
    assert not [line for line in shown if line.startswith("-")]
    with pytest.raises(AssertionError, match="BCP"):
        difference(right, wrong)
