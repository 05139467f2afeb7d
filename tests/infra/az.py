"""
Every call of az that the scripts make, against the real az's parser, and the answers that decide over keys.

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
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from tests.infra.conftest import PBX_KEY, fresh

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = "azure-cli==2.91.0"
EVERYTHING = (
    "param deployNetwork = true",
    "param recordingImmutabilityDays = 365",
    "param deployLogicApps = true",
    "param newContactCrm = true",
)
# What the service answers a list of keys with: bare as it is, wrapped as it is documented, and with nothing in it.
KEY_ANSWERS = (
    ({"default": "d", "pbx": "a"}, ["2", "a", ""]),
    ({"default": "d", "pbx": "a", "pbx-next": "b"}, ["3", "a", "b"]),
    ({"properties": {"default": "d", "pbx-next": "b"}}, ["2", "", "b"]),
    ({"default": None, "pbx": None}, ["0", "", ""]),
    ({}, ["0", "", ""]),
)


def environment(path: Path) -> Path:
    """The folder of az's programs, installed on first use."""
    if not (path / "bin" / "az").exists():
        venv.create(path, with_pip=True)
        pip = [path / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]
        subprocess.run(pip, check=True)
    return path / "bin"


def recorded(folder: Path) -> Iterator[tuple[str, ...]]:
    """Each call of az that the scripts make for everything that there is to choose, as the stand-in wrote it down."""
    azure = fresh(folder)
    azure.add_parameters(*EVERYTHING)
    secrets = {"PBX_API_KEY": PBX_KEY, "CRM_AUTHORIZATION": "Bearer text"}
    for container in ("recordings", "voicemails"):
        (azure.state / "blobs" / container).mkdir(parents=True)
    (azure.state / "types").write_text("Microsoft.Web/sites\nMicrosoft.KeyVault/vaults\n")
    vault = "/subscriptions/1/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-pbx"
    runs = [
        azure.deploy("--retention-months", "24", **secrets),
        azure.deploy("--what-if"),
        azure.deploy("--no-alerts", AZ_USER="servicePrincipal"),
        azure.run("rotateWebhookKey.sh", "-g", "rg"),
        azure.run("rotateWebhookKey.sh", "-g", "rg", "--finish"),
        azure.run("rotateSubscriptionKeys.sh", "-g", "rg"),
        azure.run("exportMonth.sh", "-g", "rg", "--month", "2026-10", "--folder", str(folder / "export")),
    ]
    (azure.state / "deleted-vault").write_text(f"kv-pbx\t{vault}\n")
    (azure.state / "former-roles").write_text(f"{vault}/providers/Microsoft.Authorization/roleAssignments/1\n")
    (azure.state / "budgets").write_text("budget-pbx-1\n")
    (azure.state / "roles").write_text("role-1\n")
    runs.append(azure.deploy())
    runs.append(azure.run("destroy.sh", "-g", "rg", "--yes", "--delete-media"))
    for run in runs:
        if run.returncode:
            raise SystemExit(run.stderr)
    words: list[str] = []
    for word in (azure.state / "arguments").read_text().split("\0"):
        if word == "\n":
            yield tuple(words)
            words = []
        else:
            words.append(word)


def understood(az: Path, calls: list[tuple[str, ...]]) -> bool:
    """Whether az's parser takes every call."""
    lines = "".join(json.dumps(call) + "\n" for call in calls)
    parser = [az / "python", Path(__file__).parent / "az_parser.py"]
    return subprocess.run(parser, input=lines, text=True, check=False).returncode == 0


class Service(BaseHTTPRequestHandler):
    """Answers with what stands in `answer`, and keeps what was sent to it."""

    answer: object = None
    sent: object = None

    def _reply(self) -> None:
        type(self).sent = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(self.answer).encode())

    do_POST = do_PUT = _reply  # noqa: N815 - the names that the base class calls

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def asked(az: Path, call: tuple[str, ...], body: str | None = None) -> str:
    """What az prints when a call of az rest is answered by Service."""
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


def keys_are_read(az: Path, calls: list[tuple[str, ...]]) -> bool:
    """Whether the queries for keys say what is there, and a key that is written arrives as it was."""
    lists = next(call for call in calls if any("/functions/" in word and "/listkeys" in word for word in call))
    for Service.answer, expected in KEY_ANSWERS:
        printed = asked(az, lists).split("\n")[:-1]
        if printed != expected:
            sys.stdout.write(f"{Service.answer} was read as {printed}\n")
            return False
    Service.answer = {"masterKey": "m", "functionKeys": {"default": "d"}, "systemKeys": {}}
    host = next(call for call in calls if any("/host/default/listkeys" in word for word in call))
    puts = next(call for call in calls if any("/functionKeys/logicapps" in word for word in call))
    body = '{"properties":{"name":"logicapps","value":"0a"}}'
    read = asked(az, host)
    asked(az, puts, body)
    return read == "m\n\n" and json.loads(str(Service.sent)) == json.loads(body)


def main() -> int:
    """Exit status: 0 when az understands everything and the keys are read as they are."""
    az = environment(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".venv-az")
    with tempfile.TemporaryDirectory() as folder:
        calls = sorted(set(recorded(Path(folder))))
    fine = understood(az, calls) and keys_are_read(az, calls)
    sys.stdout.write(f"{len(calls)} calls of az: {'all understood' if fine else 'see above'}\n")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
