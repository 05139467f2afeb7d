"""The local host as a child process."""

from __future__ import annotations

import os
import re
import sys
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
