"""snapshotDifference.sh with the real compiler: what a change makes of a bridge."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.infra.template import INFRA, SCHEDULES, compiler

if TYPE_CHECKING:
    from pathlib import Path

# As many lines as show what is looked at.
TEMPLATE = """param name string
param days int = 30
resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: 'westeurope'
  sku: { name: 'Standard_LRS' }
  kind: 'StorageV2'
  tags: { days: string(days) }
}
"""


def difference(before: Path, now: Path) -> str:
    """What the script prints."""
    environment = os.environ | {"BICEP": compiler(), "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"}
    script = [INFRA.parent / ".github" / "snapshotDifference.sh", before, now]
    done = subprocess.run(script, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(shown: str) -> list[str]:
    """The changed lines, without the names of the sides."""
    return re.findall(r"^[-+] .*", shown, re.MULTILINE)


def folder(path: Path, template: str = TEMPLATE, **files: str) -> Path:
    """A folder with a template, and files of parameters by name."""
    path.mkdir(parents=True)
    (path / "main.bicep").write_text(template)
    for name, text in files.items():
        (path / f"{name}.bicepparam").write_text(f"using 'main.bicep'\n{text}\n")
    return path


def test_the_templates_of_two_checkouts_are_compared(tmp_path: Path) -> None:
    for side in ("before", "now"):
        shutil.copytree(INFRA, tmp_path / side / "infra", ignore=shutil.ignore_patterns("production.bicepparam"))
        shutil.copy(SCHEDULES, tmp_path / side)
    schedules = tmp_path / "now" / SCHEDULES.name
    schedules.write_text(schedules.read_text().replace('"50 4/5 * * * *"', '"50 4/7 * * * *"'))
    parameters = tmp_path / "now" / "infra" / "main.bicepparam"
    parameters.write_text(parameters.read_text() + "param softDeleteDays = 31\n")
    shown = difference(tmp_path / "before" / "infra", tmp_path / "now" / "infra")
    assert shown.startswith("### main.bicepparam\n\n```diff\n--- before\n+++ now\n")
    changed = {line.replace(" ", "").strip(",") for line in lines(shown)}
    assert changed == {
        *('-"LOOK_AFTER_SCHEDULE":"504/5****"', '+"LOOK_AFTER_SCHEDULE":"504/7****"'),
        *('-"days":30', '+"days":31'),
        # Old versions go when they can no longer be restored.
        *('-"daysAfterCreationGreaterThan":30', '+"daysAfterCreationGreaterThan":31'),
    }


def test_a_file_that_stays_the_same_and_one_that_is_new(tmp_path: Path) -> None:
    before = folder(tmp_path / "before", a="param name = 'one'")
    now = folder(tmp_path / "now", "// Says nothing.\n" + TEMPLATE, a="param name = 'one'", b="param name = 'two'")
    same, new = difference(before, now).split("### b.bicepparam")
    assert same == "### a.bicepparam\n\nNothing changes.\n\n"
    assert '"two"' in new
    assert lines(new)
    assert not [line for line in lines(new) if line.startswith("-")]


def test_what_did_not_compile_before_is_new(tmp_path: Path) -> None:
    before = folder(tmp_path / "before", "no template", a="param name = 'one'")
    now = folder(tmp_path / "now", a="param name = 'one'")
    shown = lines(difference(before, now))
    assert shown
    assert not [line for line in shown if line.startswith("-")]


def test_what_does_not_compile_now_fails(tmp_path: Path) -> None:
    before = folder(tmp_path / "before", a="param name = 'one'")
    now = folder(tmp_path / "now", "no template", a="param name = 'one'")
    with pytest.raises(AssertionError, match="BCP"):
        difference(before, now)
