"""The function host that tests run an app on: dev/host, or the one that HOST_COMMAND starts.

HOST_COMMAND is a command line that an app's folder and a port are added to, such as

    HOST_COMMAND='sh -c "cd $0 && exec func start --port $1"'

Where such a host keeps its keys in files, HOST_SECRETS names that folder, and the tests write theirs into it.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import requests

from dev import processes
from dev.processes import ROOT, ChildProcess, HostProcess, only_functions
from tests.waiting import until

COMMAND = shlex.split(os.environ.get("HOST_COMMAND", ""))
MASTER = "master-key"
SECRETS = os.environ.get("HOST_SECRETS")

# For a test of a promise that only dev/host makes.
dev_host_only = pytest.mark.skipif(bool(COMMAND), reason="dev/host alone promises this")


class _OtherHost(ChildProcess):
    """Runs HOST_COMMAND for an app folder; ready when the constructor returns."""

    def __init__(self, app: pathlib.Path, port: int, env: Mapping[str, str], key: str) -> None:
        # Its worker has to be this interpreter, which has the app's packages.
        path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", "")])
        worker = {"FUNCTIONS_WORKER_RUNTIME": "python", "PATH": path}
        super().__init__((*COMMAND, str(app), str(port)), env={**os.environ, **worker, **env})
        self.url = f"http://127.0.0.1:{port}"
        until(lambda: self.exit_code is not None or self._runs(key), 120)
        assert self.exit_code is None, self.output

    def _runs(self, key: str) -> bool:
        try:
            answer = requests.get(f"{self.url}/admin/host/status", headers={"x-functions-key": key}, timeout=5)
            return bool(answer.json()["state"] == "Running")
        except (requests.RequestException, ValueError, KeyError):
            return False


def start_host(
    app: pathlib.Path = ROOT,
    port: int = 0,
    *,
    env: Mapping[str, str],
    functions: Sequence[str] = (),
    arguments: Sequence[str] = (),
    key: str = MASTER,
) -> Any:
    """Start a host for an app; arguments are dev/host's own, so a test that has some is skipped on another host."""
    if not COMMAND:
        return HostProcess(app, port, env=env, functions=functions, arguments=arguments)
    if arguments:
        pytest.skip("dev/host alone has these arguments")
    return _OtherHost(app, port or free_port(), {**only_functions(functions), **env}, key)


def write_keys(folder: pathlib.Path, keys: Mapping[str, Any]) -> dict[str, str]:
    """Write keys where the host reads them, and return the settings that say so."""
    return processes.write_keys(pathlib.Path(SECRETS) if SECRETS else folder, keys)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
