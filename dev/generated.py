"""`python -m dev.generated`: write the files, and parts of files, that are generated from tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

from dev import connector
from shared.settings import SCHEDULES, SETTINGS

_ROOT = Path(__file__).resolve().parents[1]
_README = _ROOT / "README.md"
# The Bicep templates read the schedules from this file.
_LOCAL_SETTINGS = _ROOT / "local.settings.json.example"
_TABLE = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)


def files() -> dict[Path, bytes]:
    """Return the content of each file."""
    return {
        **{connector.DIRECTORY / name: body for name, body in connector.files(connector.HOST).items()},
        _LOCAL_SETTINGS: _local_settings().encode(),
        _README: _readme().encode(),
    }


def _local_settings() -> str:
    example = json.loads(_LOCAL_SETTINGS.read_text())
    kept = {name: value for name, value in example["Values"].items() if not name.endswith("_SCHEDULE")}
    example["Values"] = kept | {name: default for name, default, _ in SCHEDULES}
    return json.dumps(example, indent=2, ensure_ascii=False) + "\n"


def _readme() -> str:
    lines = ["| Setting | Default | Meaning |", "|---|---|---|"]
    for row in SETTINGS:
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | {default} | {row.description} |")
    return _TABLE.sub(lambda found: found[1] + "\n".join(lines) + "\n" + found[2], _README.read_text())


def main() -> None:
    """Write all files."""
    for path, body in files().items():
        path.write_bytes(body)
        print(path.relative_to(_ROOT))


if __name__ == "__main__":
    main()
