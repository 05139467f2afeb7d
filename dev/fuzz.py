"""`python -m dev.fuzz`: run schemathesis by the app's own definition, against the app and a simulated PBX."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import requests

from dev.azurite import AzuriteProcess
from dev.processes import ROOT, HostProcess, write_keys
from dev.simulator import SimulatorProcess

_KEY = "fuzz-key"
_EXAMPLES, _PROCESSES, _LEAST_CASES = 10, 4, 2000
# All checks, with these exceptions. The Functions host answers 404 instead of 405 for a method that a route lacks. The
# app answers 422 to a continuation that it did not give, a number that may not be dialled and a host that may not be
# posted to; no schema expresses these rules. A subscriber's filter accepts null for a choice that was not made; an enum
# does not.
_CONFIGURATION = """
[checks]
unsupported_method.enabled = false

[[operations]]
include-operation-id = "GetEvents"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id = "GetCalls"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id = "Dial"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-method = "POST"
include-tag = "Events"
checks.negative_data_rejection.enabled = false
checks.positive_data_acceptance.enabled = false
"""
_HOOKS = {"SCHEMATHESIS_HOOKS": "dev.fuzz_hooks", "PYTHONPATH": str(ROOT)}
_COUNT = re.compile(r"(\d[\d,]*) generated")


def run(url: str, key: str, *arguments: str, processes: int = 1, without: Collection[str] = ()) -> tuple[int, int, str]:
    """
    Check an app at `url`; return the exit code (0: nothing found), the number of cases, and the reports.

    The operations are divided among processes, because schemathesis' own threads fail in Python 3.11's parser.
    """
    paths = requests.get(f"{url}/api/swagger.json", timeout=30).json()["paths"].values()
    ids = [row["operationId"] for methods in paths for row in methods.values() if "operationId" in row]
    ids = [id for id in ids if id not in without]
    shares = [[f"--include-operation-id={id}" for id in ids[start::processes]] for start in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(lambda share: _run(url, key, *share, *arguments), shares))
    cases = sum(int(count[1].replace(",", "")) for process in done if (count := _COUNT.search(process.stdout)))
    return max(process.returncode for process in done), cases, "\n".join(process.stdout for process in done)


def _run(url: str, key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("schemathesis")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "schemathesis.toml").write_text(_CONFIGURATION)
        return subprocess.run(
            (
                *(str(command), "run", f"{url}/api/swagger.json", "--header", f"x-functions-key: {key}"),
                *("--generation-deterministic", "--no-color", "--continue-on-failure", *arguments),
            ),
            cwd=directory,
            env={**os.environ, **_HOOKS, "NO_PROXY": "127.0.0.1,localhost"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def main() -> int:
    """Start an app and check it; return 0 if enough cases ran and none failed."""
    with ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory()))
        azurite = running.enter_context(AzuriteProcess(accounts=1))
        pbx = running.enter_context(SimulatorProcess(day=True))
        environment = {
            "DataStorage": azurite.account(0),
            "PBX_BASE_URL": pbx.base_url,
            "PBX_API_KEY": pbx.api_key,
            "ALLOW_LOOPBACK_CALLBACKS": "true",
            **write_keys(directory, {"master": "master-key", "host": {"fuzz": _KEY}}),
        }
        host = running.enter_context(HostProcess(env=environment))
        code, cases, report = run(host.url, _KEY, "--max-examples", str(_EXAMPLES), processes=_PROCESSES)
    print(report)
    print(f"{cases} cases")
    return code or int(cases < _LEAST_CASES)


if __name__ == "__main__":
    sys.exit(main())
