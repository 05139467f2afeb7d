"""Where the host keeps when its timers ran: blobs in `azure-webjobs-hosts` of its own storage."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError

from dev.host.connections import blob_service
from dev.host.schedule import Status
from dev.host.threads import threaded

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

logger = logging.getLogger(__name__)

_CONTAINER = "azure-webjobs-hosts"
_HOST_ID_SETTING = "AzureFunctionsWebHost__hostid"
_LONGEST_ID = 32


class Monitor:
    """Reads and writes the status blob of each timer, `timers/<host id>/Host.Functions.<name>/status`."""

    def __init__(self, service: BlobServiceClient) -> None:
        self._container = service.get_container_client(_CONTAINER)
        self._folder = f"timers/{_host_id()}"

    async def read(self, function: str) -> Status | None:
        """The status, or None where there is none that can be read; AzureError while storage is out of reach."""
        blob = self._container.get_blob_client(self._name(function))
        try:
            return Status.from_json(await threaded(lambda: blob.download_blob().readall()))
        except ResourceNotFoundError:
            return None
        except ValueError:
            logger.warning("The status of timer %s cannot be read", function)
            return None

    async def write(self, function: str, status: Status) -> None:
        """Keep the status; where storage is out of reach that is only logged, as on the real host."""
        try:
            await threaded(lambda: self._upload(self._name(function), json.dumps(status.to_dict())))
        except AzureError as error:
            logger.error("The status of timer %s was not kept (%s)", function, type(error).__name__)

    def _upload(self, name: str, text: str) -> None:
        try:
            self._container.upload_blob(name, text, overwrite=True)
        except ResourceNotFoundError:
            try:
                self._container.create_container()
            except ResourceExistsError:
                logger.debug("Container %s was made by another timer", _CONTAINER)
            self._container.upload_blob(name, text, overwrite=True)

    def _name(self, function: str) -> str:
        return f"{self._folder}/Host.Functions.{function}/status"


def monitor() -> Monitor | None:
    """The monitor of the host's own storage, or None where AzureWebJobsStorage is not set."""
    service = blob_service()
    return Monitor(service) if service else None


def _host_id() -> str:
    """The id that the settings give, else one of this machine and the app's directory."""
    if given := os.environ.get(_HOST_ID_SETTING):
        return given
    machine = re.sub(r"[^a-z0-9]", "", socket.gethostname().lower())
    directory = int(hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:8], 16)
    return f"{machine[: _LONGEST_ID - 11]}-{directory}"
