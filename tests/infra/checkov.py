"""
Runs checkov, in its own virtual environment, over what a deployment of each parameter file would make.

Reads the evaluated resources, so that a check sees what Azure would get. What it finds is in ACCEPTED with a reason,
or it fails; a row of ACCEPTED that is found no more fails too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.infra.template import EVERYTHING, PARAMETER_FILES, snapshot

ROOT = Path(__file__).parents[2]
PACKAGES = ("checkov==3.3.30",)
_SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"

_HOST, _DATA = "Microsoft.Storage/storageAccounts.stpbxh", "Microsoft.Storage/storageAccounts.stpbxd"
_VAULT, _APP, _SETTINGS = "Microsoft.KeyVault/vaults.", "Microsoft.Web/sites.", "Microsoft.Web/sites/config."
# (check, beginning of the resource's name): the reason to accept it.
ACCEPTED = {
    ("CKV_AZURE_35", _HOST): "the platform puts code packages here from outside any network; only Entra tokens open it",
    ("CKV_AZURE_59", _HOST): "as for the rule of the network; blobs are private and shared keys are off",
    ("CKV_AZURE_206", _HOST): "everything in it can be deployed again",
    ("CKV_AZURE_35", _DATA): "denied as soon as the network is deployed",
    ("CKV_AZURE_59", _DATA): "as above",
    ("CKV_AZURE_206", _DATA): "the redundancy is a parameter; production takes three zones",
    (
        "CKV_AZURE_41",
        "Microsoft.KeyVault/vaults/secrets.",
    ): "an expired key would stop webhooks and polls; the scripts rotate keys without a pause",
    ("CKV_AZURE_109", _VAULT): "the app reads its references from outside any network; roles decide who may read",
    ("CKV_AZURE_189", _VAULT): "as above",
    (
        "CKV_AZURE_225",
        "Microsoft.Web/serverfarms.",
    ): "a cold start in another zone is soon enough",
    ("CKV_AZURE_17", _APP): "the PBX posts its webhooks without a client certificate",
    ("CKV_AZURE_78", _APP): "Flex Consumption has no FTP and refuses the setting",
    ("CKV_AZURE_212", _APP): "instances follow the load; warm ones are a parameter",
    ("CKV_AZURE_213", _APP): "Flex Consumption replaces instances that do not answer by itself",
    ("CKV_AZURE_222", _APP): "the PBX and Logic Apps reach the app from the internet",
    **{
        (f"CKV_AZURE_{number}", _SETTINGS): "these are app settings, not the site's configuration"
        for number in (13, 63, 65, 66, 80, 88, 222)
    },
}


def environment(path: Path) -> Path:
    """Return the checkov program, installed on first use."""
    program = path / "bin" / "checkov"
    if not program.exists():
        venv.create(path, with_pip=True)
        pip = (path / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run([*pip, *PACKAGES], check=True)
    return program


def findings(program: Path) -> list[dict[str, Any]]:
    """Checks that failed, of all parameter files."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (*PARAMETER_FILES, EVERYTHING):
            template = {"$schema": _SCHEMA, "contentVersion": "1.0.0.0", "resources": snapshot(file).resources}
            Path(folder, f"{file.stem}.json").write_text(json.dumps(template))
        command = [program, "--directory", folder, "--framework", "arm", "--output", "json", "--skip-download"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    report = json.loads(done.stdout)
    if report["summary"]["parsing_errors"] or not report["summary"]["passed"]:
        sys.exit(f"checkov could not read the templates: {report['summary']}\n{done.stderr}")
    return list(report["results"]["failed_checks"])


def main() -> int:
    """Exit status: 0 when every finding is accepted and every accepted one is found."""
    program = environment(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".venv" / "checkov")
    found: set[tuple[str, str]] = set()
    wrong = 0
    for finding in findings(program):
        key = next(
            (key for key in ACCEPTED if key[0] == finding["check_id"] and finding["resource"].startswith(key[1])), None
        )
        if key is None:
            wrong += 1
            sys.stdout.write(f"{finding['check_id']} {finding['resource']}: {finding['check_name']}\n")
        else:
            found.add(key)
    for check, resource in sorted(ACCEPTED.keys() - found):
        sys.stdout.write(f"{check} {resource}: accepted, but found no more\n")
    return 1 if wrong or ACCEPTED.keys() - found else 0


if __name__ == "__main__":
    sys.exit(main())
