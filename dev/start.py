"""`make start`: storage emulator, PBX simulator, function host and a live demonstration, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dev.azurite import DEFAULT_PORTS, AzuriteProcess
from dev.demo import Demonstration
from dev.processes import HostProcess, NotReady
from dev.simulator import SimulatorProcess
from dev.subscribers import Subscribers

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".azurite"
LOG = STATE / "host.log"
HOST_PORT = 7071
SIMULATOR_KEY = "demo-key"
# So that polling, sweeping and reconciling show themselves within a minute or two, and subscribers may be local.
DEMO_SETTINGS = {
    "RECONCILE_GRACE_SECONDS": "15",
    "POLL_CALL_HISTORY_SCHEDULE": "*/15 * * * * *",
    "POLL_CALL_RECORDS_SCHEDULE": "*/15 * * * * *",
    "POLL_VOICEMAILS_SCHEDULE": "*/15 * * * * *",
    "ALLOW_LOOPBACK_CALLBACKS": "true",
    "SWEEP_SCHEDULE": "3/30 * * * * *",
    "RECONCILE_SCHEDULE": "*/20 * * * * *",
}


class CannotStart(Exception):
    """Something on this machine is in the way; the text says what to do."""


def values() -> dict[str, str]:
    """The Values of local.settings.json, which is made from its example where it is missing."""
    path = ROOT / "local.settings.json"
    if not path.exists():
        shutil.copy(ROOT / "local.settings.json.example", path)
    try:
        found: Mapping[str, Any] = json.loads(path.read_text())["Values"]
    except (ValueError, KeyError, TypeError) as error:
        raise CannotStart("local.settings.json is not JSON with Values; delete it to start from the example") from error
    return {name: str(value) for name, value in found.items()}


def check_machine(ports: tuple[int, ...]) -> None:
    """Raises CannotStart for a missing Node.js or a busy port."""
    if shutil.which("node") is None:
        raise CannotStart("Node.js is missing: install Node.js 20 or newer for the storage emulator")
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise CannotStart(
                    f"port {port} is busy: end what listens there (is another `make start` running?)"
                ) from None


def run(stack: ExitStack, arguments: argparse.Namespace, stop: threading.Event) -> None:
    """Start everything, show the demonstration, and wait for the end."""
    check_machine((arguments.port, *DEFAULT_PORTS))
    environment = values() | {name: os.environ[name] for name in ("PBX_API_KEY", "PBX_BASE_URL") if name in os.environ}
    url = f"http://127.0.0.1:{arguments.port}"
    simulated = not environment.get("PBX_API_KEY")
    STATE.mkdir(exist_ok=True)
    # Each simulated PBX starts empty, and so does what is stored of it.
    storage = AzuriteProcess(location=None if simulated else STATE, ports=DEFAULT_PORTS)
    stack.enter_context(storage)
    kept = "in memory, gone when this ends" if simulated else "kept in .azurite"
    print(f"Storage emulator  {storage.urls[0]}  ({kept})")
    simulator = subscribers = None
    if simulated:
        subscribers = stack.enter_context(Subscribers())
        simulator = stack.enter_context(SimulatorProcess(SIMULATOR_KEY))
        environment |= {"PBX_BASE_URL": simulator.base_url, "PBX_API_KEY": SIMULATOR_KEY} | DEMO_SETTINGS
        environment["PUBLIC_BASE_URL"] = f"{url}/"
    print(f"PBX               {simulator.url + '  (simulator)' if simulator else environment['PBX_BASE_URL']}")
    host = stack.enter_context(HostProcess(ROOT, arguments.port, env=environment, log=LOG))
    print(f"Function host     {url}  (its log is .azurite/host.log)", flush=True)
    shown = Demonstration(url, environment, log=LOG, simulator=simulator, subscribers=subscribers, stop=stop)
    shown.run(arguments.pace)
    if not stop.is_set():
        print("\nEverything goes on running. Ctrl-C ends it.", flush=True)
    while not stop.wait(1):
        if host.exit_code is not None:
            raise CannotStart("the function host ended by itself; see .azurite/host.log")


def main() -> int:
    """0 after Ctrl-C, 1 with one clear line where it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m dev.start", description=__doc__)
    parser.add_argument("--port", type=int, default=HOST_PORT, help="of the function host")
    parser.add_argument("--pace", type=float, default=0.6, help="seconds between the steps of the simulated day")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with ExitStack() as stack:
            run(stack, arguments, stop)
            print("\nStopping …", flush=True)
    except (CannotStart, NotReady, RuntimeError) as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return 1
    print("Stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
