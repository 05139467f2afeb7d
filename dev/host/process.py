"""The local host, or Core Tools, as a child process."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from dev.host.child import ChildProcess, NotReady

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_REPOSITORY = Path(__file__).resolve().parents[2]
_READY = re.compile(r"^Host is ready on (\S+)$", re.MULTILINE)


class HostProcess(ChildProcess):
    """Runs `python -m dev.host` for an app directory, on a free port unless `arguments` name one.

    `env` is added to this process's environment. It is ready when the constructor returns; NotReady otherwise.
    """

    def __init__(
        self,
        app_dir: Path = _REPOSITORY,
        *,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        log: Path | None = None,
        seconds: float = 30,
    ) -> None:
        port = () if "--port" in arguments else ("--port", "0")
        super().__init__(
            (sys.executable, "-m", "dev.host", "--app-dir", str(app_dir), *port, *arguments),
            cwd=_REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            log=log,
        )
        try:
            output = self.wait_for(lambda text: _READY.search(text) is not None, seconds)
        except NotReady:
            self.kill()
            raise
        ready = _READY.search(output)
        assert ready is not None
        self.url = ready[1]


class CoreToolsProcess(ChildProcess):
    """Runs Core Tools' `func start` for an app directory, on a free port unless `port` names one.

    `env` is added to this process's environment. It is ready when the constructor returns; NotReady otherwise.
    """

    def __init__(
        self,
        func: str,
        app_dir: Path = _REPOSITORY,
        *,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        log: Path | None = None,
        seconds: float = 120,
    ) -> None:
        port = port or _free_port()
        self.url = f"http://127.0.0.1:{port}"
        # Its worker has to be this interpreter, which has the app's packages.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        worker = {"FUNCTIONS_WORKER_RUNTIME": "python", "PATH": path}
        command = (func, "start", "--port", str(port))
        super().__init__(command, cwd=app_dir, env={**os.environ, **worker, **(env or {})}, log=log)
        deadline = time.monotonic() + seconds
        while not _is_running(port):
            if self.exit_code is not None or time.monotonic() > deadline:
                self.kill()
                raise NotReady(f"Core Tools did not start:\n{self.output}")
            time.sleep(0.2)


def core_tools() -> str | None:
    """The path of Core Tools' `func`, or None where it is not installed."""
    return shutil.which("func") or shutil.which("func", path=str(_REPOSITORY / "node_modules" / ".bin"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _is_running(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/admin/host/status")
        return bool(json.load(connection.getresponse()).get("state") == "Running")
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
