"""The drills in their quick form, with real processes: seconds in place of ten minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dev.drill.drills import DRILLS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.xdist_group("drills")


@pytest.mark.slow
@pytest.mark.parametrize("name", [drill.name for drill in DRILLS])
def test_nothing_is_lost_and_everything_recovers_by_itself(name: str) -> None:
    command = (sys.executable, "-m", "dev.drill", name, "--outage", "3", "--events", "30", "--seed", "3")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
