"""
Runs checkov over the templates, in its own virtual environment.

Its Bicep reader is older than types such as string[] and int?, and leaves out files that have them without failing.
So it gets a newer reader, and a copy of the templates in which those types are written the old way.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (("checkov==3.3.30",), ("--no-deps", "pycep-parser==0.7.1"))
OLD_TYPES = ((r"^(param \w+) \w+\[\]", r"\1 array"), (r"^(param \w+ \w+)\?", r"\1"))


def environment(path: Path) -> Path:
    """The checkov program, installed into a virtual environment on first use."""
    program = path / "bin" / "checkov"
    if not program.exists():
        venv.create(path, with_pip=True)
        for package in PACKAGES:
            command = [
                path / "bin" / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *package,
            ]
            subprocess.run(command, check=True)
    return program


def main() -> int:
    """Exit status: 0 when every file was read and no check failed without a reason beside it."""
    program = environment(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".venv" / "checkov")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "infra")
        shutil.copytree(ROOT / "infra", copy)
        for file in copy.rglob("*.bicep"):
            source = file.read_text()
            for modern, old in OLD_TYPES:
                source = re.sub(modern, old, source, flags=re.MULTILINE)
            file.write_text(source)
        command = [program, "--directory", copy, "--framework", "bicep", "--compact", "--quiet", "--skip-download"]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    unread = "Parsing errors" in result.stdout or "scan results" not in result.stdout
    return 1 if unread or result.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
