"""`python -m dev.machine PORT…`: check this machine before anything is installed or started."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

# The function host, then the storage emulator's blobs, queues and tables.
PORTS = (7071, 10000, 10001, 10002)
_OLDEST_NODE = 20


class CannotStart(Exception):
    """This machine prevents a start; the text has the remedy."""


def check(ports: tuple[int, ...] = PORTS) -> None:
    """Raise CannotStart for an old Python, a missing or old Node.js, or a busy port."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs before any environment is made
        raise CannotStart("Python 3.11 or newer is needed; set PYTHON=/path/to/python3")
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise CannotStart(f"Node.js {_OLDEST_NODE} or newer with npm is needed for the storage emulator")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if (found := re.match(r"v(\d+)", version)) and int(found[1]) < _OLDEST_NODE:
        raise CannotStart(f"Node.js is {version}; {_OLDEST_NODE} or newer is needed for the storage emulator")
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise CannotStart(f"port {port} is busy{_held_by(port)}: end that first") from None


def _held_by(port: int) -> str:
    """Return the process that listens on a port, in words for a message; an empty text if it cannot be found."""
    if lsof := shutil.which("lsof"):
        command = [lsof, "-ti", f"tcp:{port}", "-sTCP:LISTEN"]
        pids = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        return f" (process {', '.join(pids)})" if pids else ""
    try:
        tables = [Path("/proc/net", name).read_text() for name in ("tcp", "tcp6")]
    except OSError:
        return ""
    # A local address ends with the port in hexadecimal; 0A is LISTEN; the tenth column is the socket's inode.
    rows = [line.split() for table in tables for line in table.splitlines()]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(file) in sockets for file in (process / "fd").iterdir()):
                return f" (process {process.name}, {(process / 'comm').read_text().strip()})"
        except OSError:
            continue
    return ""


if __name__ == "__main__":
    try:
        check(tuple(map(int, sys.argv[1:])) or PORTS)
    except CannotStart as error:
        sys.exit(f"Cannot start: {error}")
