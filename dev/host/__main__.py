"""`python -m dev.host`: run a function app on this machine."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dev.host.http import HttpApp, Server, listen
from dev.host.queues import LEASE_SECONDS, QueueListener, by_hand
from dev.host.routes import Routes
from dev.host.settings import SECRETS_SETTING, STORAGE, HostError, load_host_config, load_keys, load_local_settings
from dev.host.timers import Monitor, Timer
from dev.host.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dev.host.settings import HostConfig
    from dev.host.worker import Function, Message

_FORMAT = "[%(asctime)s.%(msecs)03dZ] %(levelname)s %(function)s%(message)s"
# Libraries whose every call would be a line.
_QUIET = ("azure", "azure.functions", "uvicorn", "urllib3", "asyncio")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the host until it is stopped; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dev.host", description=__doc__)
    parser.add_argument("app", nargs="?", type=Path, default=Path(), help="folder of function_app.py and host.json")
    parser.add_argument("port", nargs="?", type=int, default=7071, help="0 takes a free one")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--lease-seconds", type=float, default=LEASE_SECONDS, help="of a dequeued message")
    parser.add_argument("--grace-seconds", type=float, default=5, help="for running HTTP requests at the end")
    options = parser.parse_args(arguments)
    worker = Worker()
    _start_log(worker, options.log_level)
    try:
        asyncio.run(_run(options, worker))
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(options: argparse.Namespace, worker: Worker) -> None:
    directory = options.app.resolve()
    load_local_settings(directory / "local.settings.json")
    secrets = os.environ.get(SECRETS_SETTING)
    keys = load_keys(Path(secrets)) if secrets else None
    config = load_host_config(directory / "host.json")
    listening = listen(options.port)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    await worker.load(directory, config.functions)
    routes = Routes((function for function in worker.functions if function.kind == "httpTrigger"), config.route_prefix)
    listeners = _listeners(worker, config, options.lease_seconds)
    _print_functions(worker, routes, listeners, url)

    def called(function: Function, text: str) -> tuple[Message, dict[str, Message]]:
        listener = listeners.get(function.name)
        return (listener.data(), {}) if isinstance(listener, Timer) else by_hand(function, text)

    server = Server(HttpApp(worker, routes, keys, called), lambda: print(f"Host is ready on {url}", flush=True))
    stop = _stopped_by_signal()
    serving = asyncio.create_task(server.serve([listening]))
    # A disabled timer runs by hand only.
    running = [listeners[each.name] for each in worker.functions if each.name in listeners and not each.disabled]
    tasks = [asyncio.create_task(listener.run()) for listener in running]
    await stop.wait()
    server.should_exit = True
    for listener in running:
        listener.stop()
    await asyncio.wait([serving], timeout=options.grace_seconds)
    server.cut_off()
    # Functions run to their end, so that messages are deleted and timers' status is kept; a second signal ends them.
    await asyncio.gather(serving, *tasks)
    while worker.running:
        await asyncio.sleep(0.05)


def _stopped_by_signal() -> asyncio.Event:
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            sys.stdout.flush()
            # A sync function's thread cannot be stopped, and the interpreter would wait for it.
            os._exit(0)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    return stop


def _listeners(worker: Worker, config: HostConfig, lease: float) -> dict[str, QueueListener | Timer]:
    """Return what feeds the functions that are not HTTP, by their names; a function that cannot run is reported."""
    found: dict[str, QueueListener | Timer] = {}
    # Without storage of its own the host keeps no timer's status.
    monitor = Monitor() if os.environ.get(STORAGE) else None
    for function in worker.functions:
        try:
            if function.kind == "queueTrigger" and not function.disabled:
                found[function.name] = QueueListener(worker, function, config.queues, lease)
            elif function.kind == "timerTrigger":
                found[function.name] = Timer(worker, function, monitor)
        except HostError as error:
            if not function.disabled:
                print(f"error: function {function.name} is in error: {error}", file=sys.stderr, flush=True)
    return found


def _print_functions(worker: Worker, routes: Routes, listeners: dict[str, QueueListener | Timer], url: str) -> None:
    http = {each.function.name: f"[{','.join(sorted(each.methods))}] {url}/{each.template}" for each in routes.all}
    print("Functions:" if worker.functions else "Functions: none")
    for function in worker.functions:
        listener = listeners.get(function.name)
        fed = f"queue {listener.queue}" if isinstance(listener, QueueListener) else http.get(function.name)
        fed = f"timer {listener.schedule.text}" if isinstance(listener, Timer) else fed
        print(f"  {function.name}: {'disabled' if function.disabled else fed or 'in error'}", flush=True)


def _start_log(worker: Worker, level: str) -> None:
    """Log to stderr from `level` on, each line with its function; libraries' lines only from WARNING, or at DEBUG."""

    def named(record: logging.LogRecord) -> bool:
        name = worker.function_of()
        record.function = f"[{name}] " if name else ""
        return True

    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    handler.addFilter(named)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET if level != "debug" else ():
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
