"""The machine that the app runs on: its port, and the names and the authority that it knows."""

from __future__ import annotations

import socket
from pathlib import Path

from dev.drill.certificates import Authority

# Audio may come from this machine where the PBX is known to be on it.
PBX, AUDIO, SUBSCRIBER = HOSTS = ("localhost", "audio.test", "subscriber.test")
_RESOLVER = Path(__file__).parent / "resolver"


class Machine:
    """A directory's worth of it; `values` are what settings may name in braces."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.port, *ports = _free_ports(1 + len(HOSTS))
        self.ports = dict(zip(HOSTS, ports, strict=True))
        self._names = directory / "names"
        self._known = set(HOSTS)
        self.resolve(PBX, True)
        self.values = {
            "url": f"http://127.0.0.1:{self.port}",
            "resolver": str(_RESOLVER),
            "names": str(self._names),
            "authority": str(self.authority.path),
            "pbx": f"https://{PBX}:{self.ports[PBX]}",
        }

    def resolve(self, host: str, known: bool) -> None:
        """Whether a name leads to this machine, from now on."""
        (self._known.add if known else self._known.discard)(host)
        self._names.write_text("\n".join(self._known))


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports
