"""Child processes with captured output, such as the function host. They end with their parent."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

from shared.settings import SCHEDULES

ROOT = Path(__file__).resolve().parents[1]
_PR_SET_PDEATHSIG = 1
_READY = re.compile(r"^Host is ready on (\S+)$", re.MULTILINE)
# The kernel ends a child with the thread that started it. This thread lives as long as the process.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="children")


class NotReady(Exception):
    """The process ended, or was not ready in time; the text has its output."""


class ChildProcess:
    """Starts a command and keeps its output, also in the file `log`. A context manager.

    It has its own session, so that Ctrl-C at the terminal reaches only the parent, which stops its children in order.
    On Linux it ends with its parent, even if that is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._log = log
        self._process = _starter.submit(
            subprocess.Popen,
            (*_ending_with_parent(), *command),
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ).result()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything printed so far."""
        with self._changed:
            return "".join(self._lines)

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def wait_for(self, condition: Callable[[str], bool], seconds: float) -> str:
        """Return the output as soon as the condition holds for it.

        Kill the process and raise NotReady after `seconds`, or if the process ends first.
        """
        with self._changed:
            met = self._changed.wait_for(lambda: self._ended or condition("".join(self._lines)), seconds)
            output, reason = "".join(self._lines), "the process ended" if self._ended else "not ready in time"
        if met and condition(output):
            return output
        self.kill()
        raise NotReady(f"{reason}:\n{output}")

    def wait_for_line(self, pattern: re.Pattern[str], seconds: float) -> str:
        """Return the first group of a pattern as soon as it matches the output; NotReady as in `wait_for`."""
        found = pattern.search(self.wait_for(lambda text: pattern.search(text) is not None, seconds))
        assert found is not None
        return found[1]

    def wait(self, seconds: float | None = None) -> int:
        """Wait for the end of the process and return its exit code."""
        code = self._process.wait(seconds)
        self._close()
        return code

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def stop(self, seconds: float = 10) -> int:
        """Terminate the process, kill it after `seconds`, and return its exit code."""
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self.wait()

    def kill(self) -> None:
        """Kill the process, as a crash would."""
        self._process.kill()
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._log.open("w") if self._log else nullcontext() as log:
            for line in self._process.stdout:
                if log is not None:
                    log.write(line)
                    log.flush()
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _close(self) -> None:
        self._reader.join(5)
        if not self._reader.is_alive() and self._process.stdout is not None:
            self._process.stdout.close()


class HostProcess(ChildProcess):
    """Runs `python -m dev.host` for an app folder; port 0 for any free port.

    `env` is added to this process's environment. Without `functions` all are loaded. The constructor returns once the
    host is ready, or raises NotReady.
    """

    def __init__(
        self,
        app_dir: Path = ROOT,
        port: int = 0,
        *,
        env: Mapping[str, str] | None = None,
        functions: Sequence[str] = (),
        arguments: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        super().__init__(
            (sys.executable, "-m", "dev.host", str(app_dir), str(port), *arguments),
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **only_functions(functions), **(env or {})},
            log=log,
        )
        self.url = self.wait_for_line(_READY, 30)


def without_timers(connection: str, pbx_url: str, pbx_key: str) -> dict[str, str]:
    """Return settings of an app whose timers run only by hand, and that registers no webhooks."""
    return {
        **dict.fromkeys((name for name, _, _ in SCHEDULES), "0 0 0 1 1 *"),
        "DataStorage": connection,
        "PBX_BASE_URL": pbx_url,
        "PBX_API_KEY": pbx_key,
        "PBX_WEBHOOK_KEY": "",
        "PUBLIC_BASE_URL": "",
        "ALLOW_LOOPBACK_CALLBACKS": "true",
    }


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def only_functions(functions: Sequence[str]) -> dict[str, str]:
    """Return the settings that restrict a host to some functions; none for no names."""
    return {f"AzureFunctionsJobHost__functions__{index}": name for index, name in enumerate(functions)}


def write_keys(folder: Path, keys: Mapping[str, Any]) -> dict[str, str]:
    """Write keys in the real host's format; return the settings that have a host read them.

    `keys` has the "master" key, "host" keys by name, and keys of "functions" by function and name.
    """

    def listed(values: Mapping[str, str]) -> list[dict[str, object]]:
        return [{"name": name, "value": value, "encrypted": False} for name, value in values.items()]

    folder.mkdir(parents=True, exist_ok=True)
    (master,) = listed({"master": keys["master"]})
    document = {"masterKey": master, "functionKeys": listed(keys.get("host", {})), "systemKeys": []}
    (folder / "host.json").write_text(json.dumps(document))
    for name, values in keys.get("functions", {}).items():
        (folder / f"{name.lower()}.json").write_text(json.dumps({"keys": listed(values)}))
    return {"HOST_SECRETS": str(folder), "AzureWebJobsSecretStorageType": "files"}


def _ending_with_parent() -> tuple[str, ...]:
    """Return the prefix that ends a command with the thread that starts it; empty without setpriv."""
    found = shutil.which("setpriv") if sys.platform == "linux" else None
    return (found, "--pdeathsig", "KILL") if found else ()
