"""The app in a host of its own, with its CPU time and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import requests

from dev.processes import ROOT, HostProcess, without_timers
from shared.bridge import Bridge, assemble
from shared.settings import Settings
from shared.storage.account import Storage

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE_SECONDS = 600.0


class App(HostProcess):
    """The app with only some functions, on an account that is made ready first; timers run only by hand."""

    def __init__(
        self, connection: str, *functions: str, pbx_url: str = "http://127.0.0.1:9/", pbx_key: str = "key", **more: str
    ) -> None:
        settings = without_timers(connection, pbx_url, pbx_key) | more
        self.storage = Storage(Settings.from_env(settings).storage)
        self.storage.ready()
        super().__init__(ROOT, env=settings, functions=functions)
        self.session = requests.Session()
        self.session.trust_env = False

    def cpu(self) -> float:
        """Return the CPU seconds of the process so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_mib(self) -> float:
        """Return the peak memory of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def executed(self, function: str) -> int:
        """Return the number of runs of a function since the start."""
        status = self.session.get(f"{self.url}/admin/host/status", timeout=30).json()
        return int(status["executed"].get(function, 0))

    def run(self, function: str) -> None:
        """Run a function by hand and wait for its end; RuntimeError if it fails."""
        before = self.executed(function)
        self.session.post(f"{self.url}/admin/functions/{function}", json={"input": ""}, timeout=30).raise_for_status()
        url = f"{self.url}/admin/host/status"
        until(lambda: self.executed(function) > before and not self.session.get(url, timeout=30).json()["running"])
        if f"[{function}] Native invocation failed" in self.output:
            raise RuntimeError(f"{function} failed:\n{self.output}")

    def send(self, event: str, **data: object) -> None:
        """Post an event as the PBX does."""
        body = {"type": "Event", "eventType": event, "version": "v1", "data": data}
        self.session.post(f"{self.url}/api/events/{event}", json=body, timeout=60).raise_for_status()


def bridge_to(connection: str, pbx_url: str = "http://127.0.0.1:9/", pbx_key: str = "bench") -> Bridge:
    """Return a bridge in this process, on an account that is made ready."""
    settings = {"DataStorage": connection, "PBX_BASE_URL": pbx_url, "PBX_API_KEY": pbx_key}
    bridge = assemble(Settings.from_env(settings))
    bridge.storage.ready()
    return bridge


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; RuntimeError after ten minutes."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the measured work does not end")
        time.sleep(0.1)
