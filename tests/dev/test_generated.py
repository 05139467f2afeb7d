"""Generated files are committed as they would be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.generated import files
from shared.settings import SETTINGS

ROOT = Path(__file__).parents[2]
FILES = {path.relative_to(ROOT).as_posix(): body for path, body in files().items()}


@pytest.mark.parametrize("name", FILES)
def test_committed_files_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_bytes() == FILES[name], "run make generated"


def test_every_setting_is_in_readme_and_example() -> None:
    readme, example = FILES["README.md"].decode(), FILES["local.settings.json.example"].decode()
    for row in SETTINGS:
        assert f"| `{row.name}` |" in readme
        assert not row.read_by_host or f'"{row.name}": "{row.default}"' in example
