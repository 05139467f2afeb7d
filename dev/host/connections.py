"""Storage clients by the name of the setting that a trigger's `connection` gives."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.queue import QueueServiceClient
from requests.adapters import HTTPAdapter

from dev.host.errors import HostError

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

# Batches of several queues run at once; a call must never wait for a connection.
_POOL = 64
_STORAGE = "AzureWebJobsStorage"


@cache
def queue_service(connection: str) -> QueueServiceClient:
    """A client for the queues of a connection; HostError where its setting is missing or cannot be read."""
    service: QueueServiceClient = _service(QueueServiceClient, "queue", connection)
    return service


def blob_service() -> BlobServiceClient | None:
    """A client for the blobs of the host's own storage, or None where the settings name none."""
    names = (_STORAGE, f"{_STORAGE}__accountName", f"{_STORAGE}__blobServiceUri")
    if not any(os.environ.get(name) for name in names):
        return None
    from azure.storage.blob import BlobServiceClient

    service: BlobServiceClient = _service(BlobServiceClient, "blob", "")
    return service


def _service(client: Any, kind: str, connection: str) -> Any:
    """From a connection string, or from the identity form `NAME__queueServiceUri`.

    As in Azure, `AzureWebJobs<NAME>` is looked at before `NAME`, and no name means AzureWebJobsStorage.
    """
    names = (f"AzureWebJobs{connection}", connection) if connection else (_STORAGE,)
    for name in names:
        if text := os.environ.get(name):
            try:
                return client.from_connection_string(text, **_options())
            except ValueError as error:
                raise HostError(f"the setting {name} is not a connection string") from error
        account = os.environ.get(f"{name}__accountName")
        url = os.environ.get(f"{name}__{kind}ServiceUri") or (account and f"https://{account}.{kind}.core.windows.net")
        if url:
            return client(url, credential=_credential(name), **_options())
    raise HostError(f"the setting {names[-1]} (or {names[-1]}__{kind}ServiceUri) is missing")


def _credential(name: str) -> Any:
    from azure.identity import DefaultAzureCredential

    client = os.environ.get(f"{name}__clientId")
    return DefaultAzureCredential(managed_identity_client_id=client) if client else DefaultAzureCredential()


def _options() -> dict[str, Any]:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=_POOL))
    # The listener has its own backoff; the SDK's would only hide that storage is down.
    transport = RequestsTransport(session=session, session_owner=False, connection_timeout=5, read_timeout=30)
    return {"transport": transport, "retry_total": 1, "initial_backoff": 1, "increment_base": 1}
