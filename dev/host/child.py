"""A child process whose output is read line by line."""

from __future__ import annotations

import signal
import subprocess
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


class NotReady(Exception):
    """The process ended, or did not get ready in time; the text has its output."""


class ChildProcess:
    """Starts a command and keeps what it prints (in `log` as well); use it as a context manager or stop it."""

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
        # Its own session: a Ctrl-C at the terminal reaches the parent alone, which then stops its children in order.
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
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
        """How it ended, or None while it runs."""
        return self._process.poll()

    def wait_for(self, condition: Callable[[str], bool], seconds: float) -> str:
        """The output as soon as the condition holds for it; NotReady when the process ends or the time is over."""
        with self._changed:
            met = self._changed.wait_for(lambda: self._ended or condition("".join(self._lines)), seconds)
            output = "".join(self._lines)
        if met and condition(output):
            return output
        raise NotReady(f"{'the process ended' if self._ended else 'no sign of it in time'}:\n{output}")

    def wait(self, seconds: float) -> int:
        """Wait for its end; the exit code."""
        code = self._process.wait(seconds)
        self._close()
        return code

    def interrupt(self) -> None:
        """Send it what Ctrl-C sends."""
        self._process.send_signal(signal.SIGINT)

    def stop(self, seconds: float = 10) -> int:
        """Ask it to end, and end it when it does not; the exit code."""
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()
        return self._process.returncode

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()
        self._close()

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
