"""
Every call of az in the scripts and the pages against the real az's parser, and the answers that decide over keys.

az is installed from PyPI into an environment of its own, since its packages are far from ours. Nothing leaves this
machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

from tests.infra.conftest import EVERYTHING, deploy_first, fresh
from tests.infra.template import answers
from tests.infra.test_docs import BLOCKS, run_block

ROOT = Path(__file__).parents[2]
PACKAGE = "azure-cli==2.91.0"
Call = tuple[str, ...]


def environment(path: Path) -> Path:
    """Return the folder of az's programs, installed on first use."""
    if not (path / "bin" / "az").exists():
        venv.create(path, with_pip=True)
        pip = [path / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]
        subprocess.run(pip, check=True)
    return path / "bin"


def of_scripts(folder: Path) -> Iterator[Call]:
    """Yield each call of az that the scripts make for everything that there is to choose."""
    azure = fresh(folder, *EVERYTHING, "param monthlyBudget = 200")
    deploy_first(azure)
    for container in ("recordings", "voicemails"):
        (azure.state / "blobs" / container).mkdir(parents=True)
    vault = "/subscriptions/1/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-pbx"
    runs = [
        azure.deploy("--retention-months", "24"),
        azure.deploy("--what-if"),
        azure.run("rotateWebhookKey.sh", "-g", "rg"),
        azure.run("rotateWebhookKey.sh", "-g", "rg", "--finish"),
        azure.run("rotateSubscriptionKeys.sh", "-g", "rg"),
        azure.run("exportMonth.sh", "-g", "rg", "--month", "2026-10", "--folder", str(folder / "export")),
    ]
    (azure.state / "deleted-vault").write_text(f"kv-pbx\t{vault}\n")
    (azure.state / "former-roles").write_text(f"{vault}/providers/Microsoft.Authorization/roleAssignments/1\n")
    (azure.state / "budgets").write_text("budget-pbx-1\n")
    (azure.state / "roles").write_text("role-1\n")
    (azure.state / "ids").write_text(f"{vault}\n{vault.replace('KeyVault/vaults/kv', 'Web/sites/func')}\n")
    runs.append(azure.deploy())
    runs.append(azure.run("destroy.sh", "-g", "rg", "--yes", "--delete-media"))
    for run in runs:
        if run.returncode:
            raise SystemExit(run.stderr)
    yield from recorded(azure.state / "arguments")


def of_pages(folder: Path) -> Iterator[Call]:
    """Yield each call of az in the pages' blocks of shell."""
    for number, block in enumerate(BLOCKS):
        run_block(fresh(folder / str(number)), block)
        yield from recorded(folder / str(number) / "state" / "stubbed")


def recorded(file: Path) -> Iterator[Call]:
    """Yield the calls that a stand-in wrote down: words and lines that each end with a zero byte."""
    words: list[str] = []
    for word in file.read_text().split("\0") if file.exists() else ():
        if word == "\n":
            yield tuple(words)
            words = []
        else:
            words.append(word)


def understood(az: Path, calls: list[Call]) -> bool:
    """Return True if az's parser accepts every call."""
    lines = "".join(json.dumps(call) + "\n" for call in calls)
    parser = [az / "python", Path(__file__).parent / "az_parser.py"]
    return subprocess.run(parser, input=lines, text=True, check=False).returncode == 0


class Service(BaseHTTPRequestHandler):
    """Answers with a host's keys, and keeps the body of the last request."""

    sent = ""

    def _reply(self) -> None:
        type(self).sent = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"masterKey": "m", "functionKeys": {"default": "d"}, "systemKeys": {}}')

    do_POST = do_PUT = _reply  # noqa: N815 - the names that the base class calls

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def asked(az: Path, call: Call, body: str | None = None) -> str:
    """Return the output of az for a call of az rest that Service answers."""
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        words = list(call)
        words[words.index("--url") + 1] = f"http://127.0.0.1:{server.server_port}/"
        done = subprocess.run(
            [az / "az", *words, "--skip-authorization-header"],
            input=body, capture_output=True, text=True, check=True, env=os.environ | {"AZURE_CORE_OUTPUT": "table"},
        )  # fmt: skip
        server.shutdown()
    return done.stdout


def keys_are_read(az: Path, calls: list[Call]) -> bool:
    """Return True if the queries for keys find those that there are, and a key that is written arrives as it was."""
    lists = sorted(call for call in calls if any("/host/default/listkeys" in word for word in call))
    puts = next(call for call in calls if any("/functionKeys/logicapps" in word for word in call))
    body = '{"properties":{"name":"logicapps","value":"0a"}}'
    read = [asked(az, call).strip() for call in lists]
    asked(az, puts, body)
    # The host has no key logicapps yet.
    return read == ["", "m"] and json.loads(Service.sent) == json.loads(body)


def main() -> int:
    """Return 0 when az understands everything and the keys are read as they are."""
    az = environment(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".venv-az")
    with tempfile.TemporaryDirectory() as folder:
        answers.folder = Path(folder)
        calls = sorted({*of_scripts(Path(folder, "scripts")), *of_pages(Path(folder, "pages"))})
    fine = understood(az, calls) and keys_are_read(az, calls)
    sys.stdout.write(f"{len(calls)} calls of az: {'all understood' if fine else 'see above'}\n")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
