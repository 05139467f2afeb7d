"""`make drill`: run all drills or the named ones, and report what they checked."""

from __future__ import annotations

import argparse
import sys
import time

from dev.drill.drills import DRILLS
from dev.drill.world import world


def main() -> int:
    """Return 0 if every drill passed."""
    parser = argparse.ArgumentParser(prog="python -m dev.drill", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="DRILL", help=", ".join(drill.name for drill in DRILLS))
    parser.add_argument("--seed", type=int, default=1, help="chooses the kinds of outages (1)")
    parser.add_argument("--outage", type=float, default=600.0, help="seconds of each outage (600)")
    parser.add_argument("--events", type=int, default=500, help="events that arrive during outages (500)")
    chosen = parser.parse_args()
    failed = False
    for drill in DRILLS:
        if chosen.names and drill.name not in chosen.names:
            continue
        print(f"{drill.name}: {drill.description} (seed {chosen.seed})", flush=True)
        began = time.monotonic()
        with world(drill.settings, chosen.seed, chosen.outage, chosen.events) as running:
            drill.run(running)
        failed = failed or bool(running.problems)
        outcome = "FAILED" if running.problems else "passed"
        print(f"{drill.name}: {outcome} in {time.monotonic() - began:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
