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

from dev.host.http import HttpApp, Routes
from dev.host.settings import HostConfig, HostError, load_host_config, load_keys
from dev.host.triggers import LEASE_SECONDS, QueueListener, Timer
from dev.host.worker import Worker

Listener = QueueListener | Timer

_FORMAT = "[%(asctime)s.%(msecs)03dZ] %(levelname)s %(function)s%(message)s"


def main() -> int:
    """Run the host until it is stopped; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dev.host", description=__doc__)
    parser.add_argument("app", nargs="?", type=Path, default=Path(), help="folder of function_app.py and host.json")
    parser.add_argument("port", nargs="?", type=int, default=7071, help="0 takes a free one")
    parser.add_argument("--lease-seconds", type=float, default=LEASE_SECONDS, help="of a dequeued message")
    parser.add_argument("--grace-seconds", type=float, default=5, help="for running HTTP requests at the end")
    options = parser.parse_args()
    worker = Worker()
    _start_log(worker)
    try:
        asyncio.run(_run(options, worker))
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(options: argparse.Namespace, worker: Worker) -> None:
    directory = options.app.resolve()
    secrets = os.environ.get("HOST_SECRETS")
    keys = load_keys(Path(secrets)) if secrets else None
    config = load_host_config(directory / "host.json")
    worker.load(directory, config.functions)
    listeners = _listeners(worker, config, options.lease_seconds)
    timers = {listener.function.name: listener for listener in listeners if isinstance(listener, Timer)}
    app = HttpApp(worker, Routes(worker.functions, config.route_prefix), keys, timers)
    stop = _stopped_by_signal()
    server = await app.serve(options.port, options.grace_seconds)
    # A disabled function runs only by hand.
    tasks = [asyncio.create_task(listener.run(stop)) for listener in listeners if not listener.function.disabled]
    # One write, so that no other thread's line falls into it.
    print(f"Host is ready on http://127.0.0.1:{server.addresses[0][1]}\n", end="", flush=True)
    await stop.wait()
    await server.cleanup()
    # Running functions finish, so that messages are deleted and timers' status is stored; a second signal ends them.
    await asyncio.gather(*tasks)
    while worker.running:
        await asyncio.sleep(0.05)


def _stopped_by_signal() -> asyncio.Event:
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            sys.stdout.flush()
            # The interpreter would wait for the threads of sync functions, which cannot be stopped.
            os._exit(0)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    return stop


def _listeners(worker: Worker, config: HostConfig, lease: float) -> list[Listener]:
    """Return the listeners of queue and timer functions; print an error for a function that cannot run."""
    listeners: list[Listener] = []
    for function in worker.functions:
        try:
            if function.trigger["type"] == "queueTrigger":
                listeners.append(QueueListener(worker, function, config.queues, lease))
            elif function.trigger["type"] == "timerTrigger":
                listeners.append(Timer(worker, function))
        except HostError as error:
            if not function.disabled:
                print(f"error: function {function.name} is in error: {error}", file=sys.stderr, flush=True)
    return listeners


def _start_log(worker: Worker) -> None:
    """Log to stderr from INFO on, each line with its function; chatty libraries from WARNING on."""

    def named(record: logging.LogRecord) -> bool:
        name = worker.current()
        record.function = f"[{name}] " if name else ""
        return True

    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, format=_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    logging.getLogger().handlers[0].addFilter(named)
    # These libraries log a line for every call.
    for name in ("azure", "azure.functions", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
