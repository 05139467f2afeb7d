"""`make bench`: measure all figures, or some parts, and write docs/benchmarks.md with the machine and versions."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

from dev.bench import coldstart, deliveries, lists, media, memory, polling, processing, receiving
from dev.bench.figures import Figure

PARTS = {
    module.__name__.rpartition(".")[2]: module.figures
    for module in (coldstart, receiving, processing, media, polling, deliveries, lists, memory)
}
REPORT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- figures -->", "<!-- /figures -->"
_PACKAGES = ("azure-functions", "azure-functions-runtime", "azure-data-tables", "azure-storage-blob", "pydantic")


def _row(figure: Figure) -> str:
    met = "yes" if figure.ok else "**no**"
    return f"| {figure.name} | {figure.against} | {figure.value:.3g} | {figure.goal} | {met} |"


def _machine() -> str:
    node = REPORT.parents[1] / "node_modules" / "azurite" / "package.json"
    azurite = re.search(r'"version": "([^"]+)"', node.read_text()) if node.exists() else None
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"Azurite {azurite[1] if azurite else '?'}, {packages}."
    )


def _write(rows: list[str], *, whole: bool) -> None:
    """Write the rows into the report, and unless `whole` keep the others; leave another machine's report alone."""
    before = REPORT.read_text() if REPORT.exists() else f"# Benchmarks\n\n{_BEGIN}{_END}\n"
    if not whole and _machine() not in before:
        return
    head, rule = "| Figure | Against | Measured | Goal | Met |", "|---|---|---|---|---|"
    figures = before.partition(_END)[0].splitlines()
    kept = [] if whole else [line for line in figures if line.startswith("| ") and line != head]
    table = {line.split(" | ")[0]: line for line in (*kept, *rows)}
    text = "\n".join([_BEGIN, _machine(), "", head, rule, *table.values(), _END])
    REPORT.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: text, before, flags=re.DOTALL))


def main() -> int:
    """Return 0 if everything was measured and every goal is met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if none is named")
    chosen = parser.parse_args().parts or list(PARTS)
    figures: list[Figure] = []
    failed = False
    for part in chosen:
        print(f"{part} …", file=sys.stderr, flush=True)
        try:
            measured = PARTS[part]()
        except RuntimeError as error:
            # Go on with the other parts.
            print(f"{part} could not be measured: {error}", file=sys.stderr, flush=True)
            failed = True
            continue
        print(*map(_row, measured), sep="\n", flush=True)
        figures += measured
        _write([_row(figure) for figure in figures], whole=set(chosen) == set(PARTS))
    return int(failed or not all(figure.ok for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
