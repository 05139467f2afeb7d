"""The data account: its tables, queues and containers by name, and clients for them made on first use."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.errors import StorageUnavailable
from shared.http import plain_session

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
    "lostcallers",
    "ended",
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
    "forgotten",
    "privacy",
)
QUEUES = ("events", "media", "deliveries", "privacy")
POISON = "-poison"
CONTAINERS = ("recordings", "voicemails", "payloads", "exports")

# Sized for the host's HTTP and queue concurrency on one instance, so that no call waits for a connection.
_CONNECTIONS = 64
# Whoever sends an event gets an answer within five seconds: three connections, or one answer, are waited for.
_CONNECT_SECONDS, _READ_SECONDS = 1.1, 3.0
_RETRIES: Any = {"retry_total": 2, "retry_connect": 2, "retry_read": 0, "retry_status": 1}
_LINEAR: Any = {**_RETRIES, "backoff": 0.4, "random_jitter_range": 0}
# A block of a blob: large enough to be fast, small enough that a copier's memory stays flat.
BLOCK_BYTES = 3 * 1024 * 1024
OVERLOADED = (403, 408, 429)
# What this process has made, by account.
_made: set[tuple[StorageAccount, str, str]] = set()


@contextmanager
def reaching_storage() -> Iterator[None]:
    """Raise StorageUnavailable for the SDK's errors of a storage that is out of reach or overloaded."""
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


class Storage:
    """
    Clients of the data account, one a table, queue or container, shared by all threads of the process.

    Unless the account was `prepared`, as the templates do in Azure, the first use of each makes it. Every use raises
    StorageUnavailable within five seconds where storage is out of reach, refuses connections or does not answer.
    """

    def __init__(self, account: StorageAccount, *, prepared: bool = False) -> None:
        # Its modules import each other: threads that load different ones first, all at once, would find half of them.
        import azure.core  # noqa: F401

        self._account = account
        self._prepared = prepared
        self._clients: dict[tuple[str, str], Any] = {}

    def table(self, name: str) -> TableClient:
        """Return the client of a table of TABLES."""
        return self._client(self._table, name, "create_table")  # type: ignore[no-any-return]

    def queue(self, name: str) -> QueueClient:
        """Return the client of a queue; messages are plain text, as host.json has it."""
        return self._client(self._queue, name, "create_queue")  # type: ignore[no-any-return]

    def container(self, name: str) -> ContainerClient:
        """Return the client of a container of CONTAINERS."""
        return self._client(self._container, name, "create_container")  # type: ignore[no-any-return]

    def ready(self) -> None:
        """Make every table, queue and container that is not there; raise StorageUnavailable where that fails."""
        queues = [name + suffix for name in QUEUES for suffix in ("", POISON)]
        with ThreadPoolExecutor(len(QUEUES) * 2) as pool:
            for use, names in ((self.table, TABLES), (self.queue, queues), (self.container, CONTAINERS)):
                list(pool.map(use, names))

    def _client(self, connect: Callable[[str], Any], name: str, create: str) -> Any:
        client = self._clients.get((create, name))
        if client is None:
            client = connect(name)
            if not self._prepared:
                self._make(getattr(client, create), (create, name))
            # One for all threads.
            client = self._clients.setdefault((create, name), client)
        return client

    def _make(self, make: Callable[[], Any], what: tuple[str, str]) -> None:
        """Make a table, queue or container, unless this process did before."""
        from azure.core.exceptions import ResourceExistsError

        if (self._account, *what) not in _made:
            with reaching_storage(), suppress(ResourceExistsError):
                make()
            _made.add((self._account, *what))

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
        from azure.core.pipeline.transport import RequestsTransport

        # A transport of one's own keeps its own time; the clients' options do not reach it.
        options["transport"] = RequestsTransport(
            session=self._session,
            session_owner=False,
            connection_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
        )
        if self._account.connection_string:
            return kind.from_connection_string(self._account.connection_string, name, **options)
        return kind(url or "", name, credential=self._credential, **options)

    def _table(self, name: str) -> Any:
        from shared.storage.transactions import Table

        return self._connected(Table, self._account.table, name, **_RETRIES, retry_backoff_factor=0.2)

    def _queue(self, name: str) -> Any:
        from azure.storage.queue import LinearRetry, QueueClient

        return self._connected(QueueClient, self._account.queue, name, retry_policy=LinearRetry(**_LINEAR))

    def _container(self, name: str) -> Any:
        from azure.storage.blob import ContainerClient, LinearRetry

        blocks = {"max_single_put_size": BLOCK_BYTES, "max_block_size": BLOCK_BYTES}
        retries = LinearRetry(**_LINEAR)
        return self._connected(ContainerClient, self._account.blob, name, retry_policy=retries, **blocks)
