"""The simulator in a process of its own, so that it does not share the interpreter with what is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import requests

if TYPE_CHECKING:
    from types import TracebackType

_ROOT = Path(__file__).resolve().parents[2]
_STOP_SECONDS = 10


class SimulatorProcess:
    """`python -m dev.simulator` on a free port, from `start` to `close` or as a context manager."""

    def __init__(self, api_key: str = "demo-key", *arguments: str, day: str = "empty") -> None:
        self.api_key = api_key
        self.url = ""
        self._arguments = ("--attached", "--port", "0", "--api-key", api_key, "--day", day, *arguments)
        self._process: subprocess.Popen[str] | None = None
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def base_url(self) -> str:
        """What belongs into PBX_BASE_URL."""
        return f"{self.url}/api/v2/"

    def start(self) -> Self:
        """Starts the process and waits until it listens; RuntimeError where it ends instead."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dev.simulator", *self._arguments],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.startswith("http"):
            self.close()
            raise RuntimeError("the simulator did not start")
        self.url = line.strip()
        return self

    def control(self, method: str, name: str, /, **body: Any) -> Any:
        """One `/sim/{name}` request with this JSON body; its JSON answer. requests.HTTPError where it is refused."""
        answer = self._session.request(method, f"{self.url}/sim/{name}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def close(self) -> None:
        """Ends the process."""
        self._session.close()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
