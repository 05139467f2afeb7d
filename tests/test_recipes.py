"""An event, a resource and an action are a row each: all else follows from the tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_row_of_each_kind_is_all_that_it_takes(connection_string: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.recipes", connection_string],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "knows the new rows" in done.stdout
