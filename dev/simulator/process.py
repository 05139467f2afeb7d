"""The simulator in a process of its own, so that it does not share the interpreter with what is measured."""

from __future__ import annotations

import re
import sys
from typing import Any

import requests

from dev.processes import ROOT, ChildProcess

_URL = re.compile(r"^(http\S+)$", re.MULTILINE)


class SimulatorProcess(ChildProcess):
    """Runs `python -m dev.simulator` on a free port; ready when the constructor returns, else NotReady."""

    def __init__(self, api_key: str = "demo-key", *, day: str = "empty") -> None:
        self.api_key = api_key
        command = (sys.executable, "-m", "dev.simulator", "--port", "0", "--api-key", api_key, "--day", day)
        super().__init__(command, cwd=ROOT)
        ready = _URL.search(self.wait_for(lambda text: _URL.search(text) is not None, 30))
        assert ready is not None
        self.url = ready[1]
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def base_url(self) -> str:
        """The value of PBX_BASE_URL."""
        return f"{self.url}/api/v2/"

    def control(self, method: str, name: str, /, **body: Any) -> Any:
        """Send one `/sim/{name}` request and return its JSON answer; requests.HTTPError where it is refused."""
        answer = self._session.request(method, f"{self.url}/sim/{name}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def __exit__(self, *exception: object) -> None:
        self._session.close()
        super().__exit__(*exception)
