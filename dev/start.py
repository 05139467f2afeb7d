"""`make start`: storage emulator, PBX simulator, function host and a live demonstration, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from board.access import once_token
from dev.azurite import DEFAULT_PORTS, AzuriteProcess
from dev.demo import App, Day, Subscribers, is_public
from dev.machine import PORTS, CannotStart, check
from dev.processes import ROOT, HostProcess, NotReady
from dev.simulator import SimulatorProcess
from shared.settings import Settings
from shared.storage.account import Storage

STATE = ROOT / ".azurite"
LOG = STATE / "host.log"
SIMULATOR_KEY = "demo-key"
_MADE_KEYS = ("BOARD_KEY", "BOARD_ADMIN_KEY")
_OFTEN = "*/15 * * * * *"
# Polls find lost webhooks and new contacts within a minute, and subscribers may be on this machine.
DEMO_SETTINGS = {
    "RECONCILE_GRACE_SECONDS": "15",
    "POLL_CALL_HISTORY_SCHEDULE": _OFTEN,
    "POLL_CALL_RECORDS_SCHEDULE": _OFTEN,
    "POLL_VOICEMAILS_SCHEDULE": _OFTEN,
    "POLL_CONTACTS_SCHEDULE": _OFTEN,
    "LOOK_AFTER_SCHEDULE": _OFTEN,
    "ALLOW_LOOPBACK_CALLBACKS": "true",
}


def values() -> dict[str, str]:
    """Return the Values of local.settings.json; make the file, and the page's keys in it, where they are missing."""
    path = ROOT / "local.settings.json"
    if not path.exists():
        shutil.copy(ROOT / "local.settings.json.example", path)
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        settings = document["Values"]
        missing = {name: secrets.token_urlsafe(18) for name in _MADE_KEYS if not settings.get(name)}
        settings |= missing
    except (ValueError, KeyError, TypeError) as error:
        raise CannotStart("local.settings.json is not JSON with Values; delete it to start from the example") from error
    if missing:
        path.write_text(json.dumps(document, indent=2) + "\n")
    return {name: str(value) for name, value in settings.items()}


def run(stack: ExitStack, arguments: argparse.Namespace, stop: threading.Event) -> None:
    """Start everything, print the day, and wait for the end."""
    check((arguments.port, *PORTS[1:]))
    environment = values() | {name: os.environ[name] for name in ("PBX_API_KEY", "PBX_BASE_URL") if name in os.environ}
    url = f"http://127.0.0.1:{arguments.port}"
    simulated = not environment.get("PBX_API_KEY")
    STATE.mkdir(exist_ok=True)
    # A simulated PBX starts empty, so its storage does, too.
    storage = stack.enter_context(AzuriteProcess(location=None if simulated else STATE, ports=DEFAULT_PORTS))
    print(f"Storage emulator  {storage.urls[0]}  ({'gone when this ends' if simulated else 'kept in .azurite'})")
    simulator = subscribers = None
    if simulated:
        subscribers = stack.enter_context(Subscribers())
        simulator = stack.enter_context(SimulatorProcess(SIMULATOR_KEY))
        environment |= {"PBX_BASE_URL": simulator.base_url, "PBX_API_KEY": SIMULATOR_KEY} | DEMO_SETTINGS
        environment["PUBLIC_BASE_URL"] = f"{url}/"
    print(f"PBX               {simulator.url + '  (simulator)' if simulator else environment['PBX_BASE_URL']}")
    Storage(Settings.from_env(environment).storage).ready()
    host = stack.enter_context(HostProcess(ROOT, arguments.port, env=environment, log=LOG))
    print(f"Function host     {url}  (its log is .azurite/host.log)")
    app = App(url)
    if simulated:
        app.poll_once(stop)
    _register(stack, app, environment.get("PUBLIC_BASE_URL", ""), simulated=simulated)
    if subscribers:
        subscribers.subscribe(app)
    day = Day(app, pbx=simulator, subscribers=subscribers, stop=stop)
    if not simulated:
        _invite(url, environment)
    print("\nThe day begins.\n" if simulated else "\nThe calls of your PBX are printed as they come.\n", flush=True)
    day.run(arguments.pace)
    if not stop.is_set():
        _invite(url, environment)
    while not stop.wait(1):
        if host.exit_code is not None:
            raise CannotStart("the function host ended by itself; see .azurite/host.log")


def _register(stack: ExitStack, app: App, public: str, *, simulated: bool) -> None:
    """Register the app's webhooks if the PBX can reach it; delete them from a real PBX at the end."""
    if simulated or is_public(public):
        if not simulated:
            stack.callback(lambda: app.ask("DELETE", "/api/ops/webhooks"))
        print(f"Webhooks          {app.register()}")
        return
    print(f"Webhooks          none: the PBX cannot reach {public or 'an empty PUBLIC_BASE_URL'}; polls find the events")
    print(f"                  A tunnel, such as `cloudflared tunnel --url {app.url}`, gives a public address")
    print("                  to put into PUBLIC_BASE_URL in local.settings.json.")


def _invite(url: str, environment: Mapping[str, str]) -> None:
    key = environment.get("PBX_WEBHOOK_KEY", "")
    body = '{"data": {"callID": 42}}'
    print("\nThe page; this address signs in once:")
    print(f"  {url}/api/board/enter/{once_token(Settings.from_env(environment))}")
    print("Three things to try:")
    print("  1. On the page, open To call back, and call somebody back.")
    print(f"  2. curl -X POST '{url}/api/events/CallStarted?code={key}' -d '{body}'")
    print(f"  3. curl '{url}/api/v2/events?limit=3'")
    print("Everything keeps running. Ctrl-C ends it.", flush=True)


def main() -> int:
    """Run until Ctrl-C and return 0; print one line and return 1 if the start fails."""
    parser = argparse.ArgumentParser(prog="python -m dev.start", description=__doc__)
    parser.add_argument("--port", type=int, default=PORTS[0], help="of the function host")
    parser.add_argument("--pace", type=float, default=0.6, help="seconds between the steps of the simulated day")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
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
