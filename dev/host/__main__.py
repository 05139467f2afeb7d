"""`python -m dev.host`: run a function app on this machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dev.host.admin import Admin
from dev.host.errors import HostError
from dev.host.http import HttpApp
from dev.host.keys import load_keys
from dev.host.logs import start_log
from dev.host.monitor import monitor
from dev.host.queues import LEASE, QueueListener
from dev.host.routes import Routes
from dev.host.server import Server, listen, url_of
from dev.host.settings import HostConfig, load_host_config, load_local_settings
from dev.host.timers import Timer
from dev.host.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

_PORT = 7071
_LEVELS = ("debug", "info", "warning", "error")


@dataclass(kw_only=True, slots=True)
class Listeners:
    """What feeds the functions that are not HTTP (a disabled timer runs by hand only), and why some cannot run."""

    queues: dict[str, QueueListener] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def enabled(self) -> list[QueueListener | Timer]:
        """Those that run by themselves."""
        return [*self.queues.values(), *(timer for timer in self.timers.values() if not timer.disabled)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the host until it is stopped; the exit code."""
    options = _parser().parse_args(arguments)
    worker = Worker()
    start_log(worker, options.log_level)
    try:
        asyncio.run(_run(options, worker))
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


async def _run(options: argparse.Namespace, worker: Worker) -> None:
    directory = Path(options.app_dir).resolve()
    if not directory.is_dir():
        raise HostError(f"{directory} is not a directory")
    keys = load_keys(Path(options.keys).resolve()) if options.keys else None
    if options.enable_auth and keys is None:
        raise HostError("--enable-auth needs --keys FILE")
    local = load_local_settings(directory / options.settings)
    config = load_host_config(directory / "host.json")
    port = options.port if options.port is not None else local.port or _PORT
    listening = listen(options.address or local.address or "127.0.0.1", port)
    url = url_of(listening)
    await worker.load(directory, options.functions or ())
    routes = Routes((function for function in worker.functions if function.kind == "httpTrigger"), config.route_prefix)
    listeners = _listeners(worker, config, timedelta(seconds=options.lease_seconds))
    urls = {route.function.name: f"{url}/{route.template}" for route in routes.all}
    app = HttpApp(
        worker=worker,
        routes=routes,
        admin=Admin(worker, listeners.timers, urls),
        keys=keys if options.enable_auth else None,
        local=local,
        custom_headers=config.custom_headers,
    )
    _print_functions(worker, routes, listeners, urls)
    server = Server(app, lambda: print(f"Host is ready on {url}", flush=True))
    stop = _stopped_by_signal()
    serving = asyncio.create_task(server.serve([listening]))
    running = listeners.enabled()
    listening_on = [asyncio.create_task(listener.run()) for listener in running]
    await stop.wait()
    server.should_exit = True
    for listener in running:
        listener.stop()
    await asyncio.wait([serving], timeout=options.grace_seconds)
    server.cut_off()
    # Functions run to their end, so that messages are deleted and timers' status is kept; a second signal ends them.
    await asyncio.gather(serving, *listening_on)
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

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    return stop


def _listeners(worker: Worker, config: HostConfig, lease: timedelta) -> Listeners:
    found, status = Listeners(), monitor()
    for function in worker.functions:
        try:
            if function.kind == "queueTrigger" and not function.disabled:
                found.queues[function.name] = QueueListener(worker, function, config.queues, lease)
            elif function.kind == "timerTrigger":
                found.timers[function.name] = Timer(worker, function, status)
        except HostError as error:
            if not function.disabled:
                found.errors.append(f"function {function.name} is in error: {error}")
    return found


def _print_functions(worker: Worker, routes: Routes, listeners: Listeners, urls: dict[str, str]) -> None:
    lines = [
        f"{route.function.name}: [{','.join(sorted(route.methods))}] {urls[route.function.name]}"
        for route in routes.all
        if not route.function.disabled
    ]
    lines += [f"{name}: queue {listener.queue}" for name, listener in listeners.queues.items()]
    lines += [f"{name}: timer {timer.schedule.text}" for name, timer in listeners.timers.items() if not timer.disabled]
    lines += [f"{function.name}: disabled" for function in worker.functions if function.disabled]
    print("Functions:", *(f"  {line}" for line in lines or ["none"]), sep="\n", flush=True)
    for line in listeners.errors:
        print(f"error: {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dev.host", description=__doc__)
    parser.add_argument("--port", type=int, help=f"0 takes a free one; default {_PORT}")
    parser.add_argument("--address", help="default 127.0.0.1")
    parser.add_argument("--app-dir", default=".", help="where function_app.py and host.json are")
    parser.add_argument("--settings", default="local.settings.json", help="file of settings, in the app's directory")
    parser.add_argument("--functions", nargs="+", metavar="NAME", help="load only these")
    parser.add_argument("--enable-auth", action="store_true", help="enforce keys as Azure does")
    parser.add_argument("--keys", metavar="FILE", help="the keys, as JSON")
    parser.add_argument("--log-level", choices=_LEVELS, default="info")
    parser.add_argument("--lease-seconds", type=float, default=LEASE.total_seconds(), help="of a dequeued message")
    parser.add_argument("--grace-seconds", type=float, default=5, help="for running HTTP requests at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
