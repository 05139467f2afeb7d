"""`python -m dev.simulator`: run the simulated PBX; its URL is the first line of output."""

from __future__ import annotations

import argparse
import signal
import threading

from dev.simulator.simulator import Simulator


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m dev.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8090, help="0 takes a free one")
    parser.add_argument("--api-key", default="demo-key")
    parser.add_argument("--day", action="store_true", help="begin with two hours of calls")
    chosen = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Simulator(chosen.api_key, port=chosen.port) as pbx:
        print(pbx.url, flush=True)
        if chosen.day:
            pbx.start_day()
        stop.wait()


if __name__ == "__main__":
    main()
