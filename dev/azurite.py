"""Azurite, the storage emulator, as a child process."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from dev.processes import ChildProcess, NotReady

_SCRIPT = Path(__file__).resolve().parents[1] / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
_ACCOUNT = "devstoreaccount1"
# The emulator's well-known key, the same on every machine.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
# Short: one environment variable holds the names and keys of all accounts.
_NUMBERED_KEY = "a2V5"
_LISTENING = re.compile(r"Azurite (Blob|Queue|Table) service (?:is )?successfully listen\w* (?:on|at) (\S+)")
_SERVICES = ("Blob", "Queue", "Table")


class Ports(NamedTuple):
    """A port for each service; 0 for any free port."""

    blob: int = 0
    queue: int = 0
    table: int = 0


DEFAULT_PORTS = Ports(10000, 10001, 10002)


class AzuriteProcess(ChildProcess):
    """
    Runs Azurite in memory, or with its data in `location`; the constructor waits until it is ready, or raises NotReady.

    `accounts` is the number of empty accounts that replace the well-known one, so that tests need not share.
    """

    def __init__(self, *, location: Path | None = None, ports: Ports | None = None, accounts: int = 0) -> None:
        node = shutil.which("node")
        if node is None:
            raise NotReady("Node is missing: install Node 20 or later")
        if not _SCRIPT.exists():
            raise NotReady("Azurite is missing: run `npm install` in the repository")
        ports = ports or Ports()
        numbered = ";".join(f"account{number}:{_NUMBERED_KEY}" for number in range(accounts))
        data = ("--location", str(location)) if location else ("--inMemoryPersistence",)
        super().__init__(
            (
                node, str(_SCRIPT), *data, "--silent", "--disableTelemetry", "--skipApiVersionCheck",
                "--blobPort", str(ports.blob), "--queuePort", str(ports.queue), "--tablePort", str(ports.table),
            ),
            env=os.environ | ({"AZURITE_ACCOUNTS": numbered} if accounts else {}),
        )  # fmt: skip
        output = self.wait_for(lambda text: len(_LISTENING.findall(text)) == len(_SERVICES), 30)
        self._count = accounts
        self._services = {name: url.rstrip("/") for name, url in _LISTENING.findall(output)}

    @property
    def connection_string(self) -> str:
        """The connection string for every SDK and for app settings."""
        return self._connection_string(_ACCOUNT, _KEY)

    def account(self, number: int) -> str:
        """Return the connection string of an account by its number, from 0 on; ValueError beyond `accounts`."""
        if not 0 <= number < self._count:
            raise ValueError(f"the emulator has {self._count} accounts: start it with more")
        return self._connection_string(f"account{number}", _NUMBERED_KEY)

    def _connection_string(self, account: str, key: str) -> str:
        endpoints = "".join(f"{name}Endpoint={self._services[name]}/{account};" for name in _SERVICES)
        return f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};{endpoints}"

    @property
    def urls(self) -> tuple[str, str, str]:
        """The endpoints of the blob, queue and table service, with the account."""
        blob, queue, table = (f"{self._services[name]}/{_ACCOUNT}" for name in _SERVICES)
        return blob, queue, table
