"""The package for Azure: deploy.sh and .funcignore agree."""

from __future__ import annotations

import re
import subprocess

import pytest
from pathspec import GitIgnoreSpec

from tests.infra.template import INFRA

ROOT = INFRA.parent


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Files of the project, as git knows them."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.splitlines()


def packed(name: str) -> bool:
    """Return True if deploy.sh packs a file."""
    taken = re.search(r"find (.+) -type f", (INFRA / "deploy.sh").read_text())
    assert taken is not None
    return name.split("/", maxsplit=1)[0] in taken[1].split() and "__pycache__" not in name


def test_funcignore_and_deploy_pack_the_same_files(tracked: list[str]) -> None:
    ignored = GitIgnoreSpec.from_lines((ROOT / ".funcignore").read_text().splitlines())
    left = [name for name in tracked if not ignored.match_file(name)]
    assert left == [name for name in tracked if packed(name)]


def test_the_package_has_everything_the_app_needs() -> None:
    assert all(map(packed, ("host.json", "function_app.py", "requirements.txt", "functions/x.py", "shared/x.py")))
    assert not any(map(packed, ("local.settings.json", "tests/x.py", "dev/x.py", "infra/x.bicep", ".env")))
