"""
What a machine brings to the app: names that resolve and certificates that are trusted, for a host that a drill starts.

Python imports this from PYTHONPATH before all else. `localhost` and names below `.test` resolve to this machine while
they stand in the file DRILL_NAMES. Certificates of the authority in the file DRILL_AUTHORITY are trusted, no others.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import certifi

_NAMES = Path(os.environ["DRILL_NAMES"])
_resolve = socket.getaddrinfo


def _getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and (name == "localhost" or name.endswith(".test")):
        if name not in _NAMES.read_text().split():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        host = "127.0.0.1"
    return _resolve(host, *args, **options)


socket.getaddrinfo = _getaddrinfo
certifi.where = lambda: os.environ["DRILL_AUTHORITY"]
