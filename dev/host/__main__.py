"""`python -m dev.host`: run a function app on this machine."""

from __future__ import annotations

import argparse
import asyncio
import logging
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
from dev.host.queues import LEASE, QueueListener
from dev.host.routes import Routes
from dev.host.server import Server, listen, url_of
from dev.host.settings import HostConfig, load_host_config, load_local_settings
from dev.host.timers import Timer
from dev.host.worker import Function, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

_PORT = 7071
_LEVELS = ("debug", "info", "warning", "error")


@dataclass(kw_only=True, slots=True)
class Listeners:
    """What feeds the functions that are not HTTP, and why some of them cannot run."""

    queues: dict[str, QueueListener] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


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
    enabled = [function for function in worker.functions if not function.disabled]
    routes = Routes((function for function in enabled if function.kind == "httpTrigger"), config.route_prefix)
    listeners = _listeners(worker, enabled, config, timedelta(seconds=options.lease_seconds))
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
    server = Server(app, lambda: print(f"Host is ready on {url}", flush=True), options.grace_seconds)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve([listening]))
    polling = [asyncio.create_task(listener.run()) for listener in listeners.queues.values()]
    ticking = [asyncio.create_task(timer.run()) for timer in listeners.timers.values()]
    await stop.wait()
    server.should_exit = True
    for task in ticking:
        task.cancel()
    for listener in listeners.queues.values():
        listener.stop()
    await _drain(worker, [serving, *polling], options.grace_seconds)


async def _drain(worker: Worker, ending: Sequence[asyncio.Task[None]], grace: float) -> None:
    """Let running invocations end, for as long as the grace lasts."""
    deadline = asyncio.get_running_loop().time() + grace
    _ended, cut_off = await asyncio.wait(ending, timeout=grace)
    while worker.running and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    if worker.running or cut_off:
        if worker.running:
            logging.getLogger(__name__).warning("%d invocations were cut off", worker.running)
        sys.stdout.flush()
        sys.stderr.flush()
        # A sync function's thread cannot be stopped, and the interpreter would wait for it.
        os._exit(0)


def _listeners(worker: Worker, functions: Sequence[Function], config: HostConfig, lease: timedelta) -> Listeners:
    found = Listeners()
    for function in functions:
        try:
            if function.kind == "queueTrigger":
                found.queues[function.name] = QueueListener(worker, function, config.queues, lease)
            elif function.kind == "timerTrigger":
                found.timers[function.name] = Timer(worker, function)
        except HostError as error:
            found.errors.append(f"function {function.name} is in error: {error}")
    return found


def _print_functions(worker: Worker, routes: Routes, listeners: Listeners, urls: dict[str, str]) -> None:
    lines = [
        f"{route.function.name}: [{','.join(sorted(route.methods))}] {urls[route.function.name]}"
        for route in routes.all
    ]
    lines += [f"{name}: queue {listener.queue}" for name, listener in listeners.queues.items()]
    lines += [f"{name}: timer {timer.schedule.text}" for name, timer in listeners.timers.items()]
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
    parser.add_argument("--grace-seconds", type=float, default=5, help="for running invocations at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
