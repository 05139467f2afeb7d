"""Child processes end with their parent, even if it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import until

ROOT = Path(__file__).parents[2]
# An emulator and a host's kind of child, and a line with their ids.
PARENT = """
import sys, time
from dev.azurite import AzuriteProcess
from dev.simulator import SimulatorProcess
children = AzuriteProcess(), SimulatorProcess()
print(*(child.pid for child in children), flush=True)
time.sleep(60)
"""
SUITE = """
import os, pathlib, time
def test_it(azurite):
    pathlib.Path(os.environ["PIDS"]).write_text(f"{azurite.pid} {os.getpid()}")
    time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_children_end_with_the_process_that_started_them(end: signal.Signals) -> None:
    command = (sys.executable, "-c", PARENT)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(map(is_alive, pids))
        parent.send_signal(end)
    until(lambda: not any(map(is_alive, pids)), 10)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_run_of_tests_that_is_ended_leaves_no_process(tmp_path: Path, end: signal.Signals) -> None:
    file, pids = tmp_path / "test_sleeping.py", tmp_path / "pids"
    file.write_text(SUITE)
    command = (sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:cacheprovider", "-p", "tests.conftest", file)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with subprocess.Popen(command, cwd=ROOT, env=environment | {"PIDS": str(pids)}, start_new_session=True) as suite:
        until(lambda: pids.exists() and pids.read_text(), 60)
        os.killpg(suite.pid, end)
    until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()), 20)
