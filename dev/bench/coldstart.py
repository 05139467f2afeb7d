"""Cold start: the time to import and index the app, against importing azure.functions."""

from __future__ import annotations

import subprocess
import sys

from dev.bench.figures import Figure, at_most, median_ratio
from dev.processes import ROOT

_TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
_LIMIT = _TIMED.format("import azure.functions")
_OURS = _TIMED.format("import function_app; function_app.app.get_functions()")


def _import_seconds(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout)


def figures() -> list[Figure]:
    """Return the ratio of the two times, each in a fresh interpreter."""
    ratio = median_ratio(lambda: _import_seconds(_OURS), lambda: _import_seconds(_LIMIT), rounds=11)
    return [at_most("Cold start: import and index of the app", "import azure.functions alone", ratio, 2.5)]
