"""The host's log on stderr: each line with its time and the function that wrote it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dev.host.worker import Worker

_FORMAT = "[%(asctime)s.%(msecs)03dZ] %(levelname)s %(function)s%(message)s"
# Libraries whose every call would be a line.
_QUIET = ("azure", "azure.functions", "uvicorn", "urllib3", "asyncio")


class _FunctionName(logging.Filter):
    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        name = self._worker.function_of()
        record.function = f"[{name}] " if name else ""
        return True


def start_log(worker: Worker, level: str) -> None:
    """Log to stderr from `level` on; the libraries' own lines only from WARNING, or all of them at DEBUG."""
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    handler.addFilter(_FunctionName(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level.upper() != "DEBUG":
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        # A missing sign-in is a page of advice at every poll; the listener says once that it cannot read.
        logging.getLogger("azure.identity").setLevel(logging.ERROR)
