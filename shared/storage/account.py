"""The data account: its tables, queues and containers by name, and clients for them made on first use."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from shared.errors import StorageUnavailable
from shared.http import plain_session
from shared.storage import deadline
from shared.storage.deadline import Breaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests
    from azure.data.tables import TableClient
    from azure.storage.blob import ContainerClient
    from azure.storage.queue import QueueClient

    from shared.settings import StorageAccount

logger = logging.getLogger(__name__)

TABLES = (
    "events",
    "calls",
    "cases",
    "deadletters",
    "feed",
    "media",
    "checkpoints",
    "resources",
    "health",
    "webhooks",
    "budget",
    "subscriptions",
    "deliveries",
    "dials",
    "numbers",
    "retention",
    "audit",
    "board",
)
QUEUES = ("events", "media", "deliveries")
POISON = "-poison"
CONTAINERS = ("recordings", "voicemails", "payloads")

# Sized for the host's HTTP and queue concurrency on one instance, so that no call waits for a connection.
_CONNECTIONS = 64
_CONNECT_SECONDS = 3
_READ_SECONDS = 5.0
_RETRIES = 2
_LINEAR: Any = {"backoff": deadline.RETRY_SECONDS, "retry_total": _RETRIES, "random_jitter_range": 0}
# A block of a blob: large enough to be fast, small enough that a copier's memory stays flat.
BLOCK_BYTES = 3 * 1024 * 1024
_MISSING = ("TableNotFound", "QueueNotFound", "ContainerNotFound")
OVERLOADED = (403, 408, 429)


@contextmanager
def reaching_storage() -> Iterator[None]:
    """Turn the SDK's ways of saying that storage is out of reach or overloaded into StorageUnavailable."""
    from azure.core.exceptions import (
        ClientAuthenticationError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    try:
        yield
    except (ServiceRequestError, ServiceResponseError) as error:
        raise StorageUnavailable("storage is out of reach") from error
    except ClientAuthenticationError as error:
        raise StorageUnavailable("storage does not let this app in; roles take some minutes to work") from error
    except HttpResponseError as error:
        if error.status_code in OVERLOADED or (error.status_code or 0) >= 500:
            raise StorageUnavailable("storage is overloaded, or does not let this app in") from error
        raise


def _says_missing(response: Any) -> bool:
    # The Table service may name the error in the body only.
    named = response.headers.get("x-ms-error-code") or response.text()
    return any(name in named for name in _MISSING)


def _transport(
    session: requests.Session, breaker: Breaker, read_seconds: float, create: Callable[[], Any] | None
) -> Any:
    """A transport that makes the table, queue or container when the service says it is not there, and asks again."""
    from azure.core.exceptions import ResourceExistsError
    from azure.core.pipeline.transport import RequestsTransport

    class Creating(RequestsTransport):  # type: ignore[misc]
        def send(self, request: Any, **options: Any) -> Any:
            with deadline.bounded(options, _CONNECT_SECONDS, read_seconds), breaker.passing():
                response = super().send(request, **options)
            if create is None or response.status_code != 404 or not _says_missing(response):
                return response
            try:
                create()
            except ResourceExistsError:
                logger.debug("another instance made it first")
            return super().send(request, **options)

    # A transport of one's own keeps its own time; the clients' options do not reach it.
    return Creating(
        session=session, session_owner=False, connection_timeout=_CONNECT_SECONDS, read_timeout=read_seconds
    )


class Storage:
    """
    Clients of the data account, one a table, queue or container, shared by all threads of the process.

    A service that says nothing for `read_seconds` counts as out of reach; after three times it is asked by one
    request at a time, and all others fail at once.
    """

    def __init__(self, account: StorageAccount, *, read_seconds: float = _READ_SECONDS) -> None:
        self._account = account
        self._read_seconds = read_seconds
        self._clients: dict[tuple[str, str], Any] = {}
        self._breakers = {service: Breaker() for service in ("table", "queue", "blob")}

    def table(self, name: str) -> TableClient:
        """The client of a table of TABLES."""
        return self._client("table", name, self._table, "create_table")  # type: ignore[no-any-return]

    def queue(self, name: str) -> QueueClient:
        """The client of a queue; messages are plain text, as host.json has it."""
        return self._client("queue", name, self._queue, "create_queue")  # type: ignore[no-any-return]

    def container(self, name: str) -> ContainerClient:
        """The client of a container of CONTAINERS."""
        return self._client("blob", name, self._container, "create_container")  # type: ignore[no-any-return]

    def create_all(self) -> None:
        """Make every table, queue and container that is not there; Bicep does this in Azure."""
        from azure.core.exceptions import ResourceExistsError

        makers: list[Callable[[], Any]] = [self.table(name).create_table for name in TABLES]
        makers += [self.queue(name + suffix).create_queue for name in QUEUES for suffix in ("", POISON)]
        makers += [self.container(name).create_container for name in CONTAINERS]
        for make in makers:
            with suppress(ResourceExistsError):
                make()

    def _client(self, service: str, name: str, make: Callable[..., Any], create: str) -> Any:
        client = self._clients.get((service, name))
        if client is None:
            transport = partial(_transport, self._session, self._breakers[service], self._read_seconds)
            bare = make(name, transport=transport(None))
            made = make(name, transport=transport(getattr(bare, create)))
            # One for all threads.
            client = self._clients.setdefault((service, name), made)
        return client

    @cached_property
    def _session(self) -> requests.Session:
        # The SDK logs every request's URL at INFO.
        logging.getLogger("azure").setLevel(logging.WARNING)
        return plain_session(hosts=8, connections=_CONNECTIONS)

    @cached_property
    def _credential(self) -> Any:
        from azure.identity import DefaultAzureCredential

        return DefaultAzureCredential(managed_identity_client_id=self._account.client_id)

    def _connected(self, kind: Any, url: str | None, name: str, **options: Any) -> Any:
        if self._account.connection_string:
            return kind.from_connection_string(self._account.connection_string, name, **options)
        return kind(url or "", name, credential=self._credential, **options)

    def _table(self, name: str, **options: Any) -> Any:
        from shared.storage.transactions import Table

        options |= {"retry_total": _RETRIES, "retry_backoff_factor": 0.2}
        return self._connected(Table, self._account.table, name, **options)

    def _queue(self, name: str, **options: Any) -> Any:
        from azure.storage.queue import LinearRetry, QueueClient

        return self._connected(QueueClient, self._account.queue, name, retry_policy=LinearRetry(**_LINEAR), **options)

    def _container(self, name: str, **options: Any) -> Any:
        from azure.storage.blob import ContainerClient, LinearRetry

        options |= {"max_single_put_size": BLOCK_BYTES, "max_block_size": BLOCK_BYTES}
        retries = LinearRetry(**_LINEAR)
        return self._connected(ContainerClient, self._account.blob, name, retry_policy=retries, **options)
