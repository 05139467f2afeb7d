"""`python -m dev.simulator`: a PBX on this machine; prints its URL first."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from dev.simulator.day import DAYS
from dev.simulator.simulator import Simulator


def main() -> int:
    """Serve until it is interrupted; return 1 where the port is taken."""
    parser = argparse.ArgumentParser(prog="python -m dev.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8090, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--api-key", default="demo-key")
    parser.add_argument("--day", choices=sorted(DAYS), default="empty")
    parser.add_argument("--pace", type=float, default=0.0, help="play the day, a step each so many real seconds")
    chosen = parser.parse_args()
    try:
        pbx = Simulator(chosen.api_key, port=chosen.port, host=chosen.host)
    except OSError as error:
        print(f"port {chosen.port} is not free ({error.strerror}); choose another with --port", file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with pbx:
        print(pbx.url, flush=True)
        pbx.start_day(chosen.day, chosen.pace)
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
