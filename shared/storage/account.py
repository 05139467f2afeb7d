"""The data account: its tables, queues and containers by name, and the clients that a process keeps of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, cached_property, wraps
from threading import RLock
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from shared.errors import StorageUnavailable
from shared.http import plain_session
from shared.settings import StorageAccount

if TYPE_CHECKING:
    import requests
    from azure.data.tables import TableClient
    from azure.storage.blob import ContainerClient
    from azure.storage.queue import QueueClient

P = ParamSpec("P")
Made = TypeVar("Made")

TABLES = (
    "events", "calls", "lostcallers", "ended", "deadletters", "feed", "media", "checkpoints", "resources", "health",
    "webhooks", "budget", "subscriptions", "deliveries", "dials", "numbers", "audit", "board", "forgotten", "privacy",
)  # fmt: skip
QUEUES = ("events", "media", "deliveries", "privacy")
POISON = "-poison"
CONTAINERS = ("recordings", "voicemails", "payloads", "exports")

# Sized for the host's HTTP and queue concurrency on one instance, so that no call waits for a connection.
_CONNECTIONS = 64
# A sender of an event gets an answer within five seconds: time for three connections, or for one answer.
# No try begins, or waits for its answer, after 3.5 seconds in all.
_CONNECT_SECONDS, _READ_SECONDS, _ALL_SECONDS = 1.1, 3.0, 3.5
_TRIES, _PAUSE_SECONDS = 3, 0.4
_DENIED, OVERLOADED = (401, 403), (408, 429, *range(500, 600))
_NO_ENTRY = "storage denies this app access; new roles take some minutes to work"
# A block of a blob: large enough to be fast, small enough that a copier's memory stays flat.
BLOCK_BYTES = 3 * 1024 * 1024
# The parts that this process has created, by account, kind and name.
_made: set[tuple[StorageAccount, str, str]] = set()


def once(make: Callable[P, Made]) -> Callable[P, Made]:
    """
    Keep the result of a maker for the life of the process, one for each set of arguments; errors are not kept.

    Unlike a cache, it never makes a second one for a thread that asks while the first is being made.
    """
    kept, lock = cache(make), RLock()

    @wraps(make)
    def ask(*args: P.args, **options: P.kwargs) -> Made:
        with lock:
            return kept(*args, **options)  # type: ignore[arg-type]

    return ask


class Storage:
    """
    Clients of the data account, one a table, queue or container, shared by all threads of the process.

    The first use of a part creates it, unless the account was `prepared`, as by the templates in Azure. Each request of
    each client raises StorageUnavailable, within five seconds, if storage is out of reach, overloaded, does not answer,
    or denies access.
    """

    def __init__(self, account: StorageAccount, *, prepared: bool = False) -> None:
        # Imported by one thread: its modules import each other, and threads that begin with different ones would fail.
        import azure.core  # noqa: F401

        self._account = account
        self._prepared = prepared
        self._clients: dict[tuple[str, str], Any] = {}

    def table(self, name: str) -> TableClient:
        """Return the client of a table of TABLES."""
        return self._clients.get(("table", name)) or self._client("table", name)  # type: ignore[no-any-return]

    def queue(self, name: str) -> QueueClient:
        """Return the client of a queue; messages are plain text, as host.json has it."""
        return self._clients.get(("queue", name)) or self._client("queue", name)  # type: ignore[no-any-return]

    def container(self, name: str) -> ContainerClient:
        """Return the client of a container of CONTAINERS."""
        return self._clients.get(("container", name)) or self._client("container", name)  # type: ignore[no-any-return]

    def ready(self) -> None:
        """Create every table, queue and container that does not exist."""
        parts = [*(("table", name) for name in TABLES), *(("container", name) for name in CONTAINERS)]
        parts += [("queue", name + suffix) for name in QUEUES for suffix in ("", POISON)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda part: self._client(*part), parts))

    def _client(self, kind: str, name: str) -> Any:
        """Create a part if needed and return its client, or the client that another thread has made meanwhile."""
        from azure.core.exceptions import ResourceExistsError

        client, part = self._connect(kind, name), (self._account, kind, name)
        if not self._prepared and part not in _made:
            with suppress(ResourceExistsError):
                getattr(client, f"create_{kind}")()
            _made.add(part)
        return self._clients.setdefault((kind, name), client)

    def _connect(self, kind: str, name: str) -> Any:
        client: Any
        account, options = self._account, {"transport": self._transport}
        if kind == "table":
            from azure.data.tables import TableClient

            client, url = TableClient, account.table
        elif kind == "queue":
            from azure.storage.queue import QueueClient

            client, url = QueueClient, account.queue
        else:
            from azure.storage.blob import ContainerClient

            client, url = ContainerClient, account.blob
            options |= {"max_single_put_size": BLOCK_BYTES, "max_block_size": BLOCK_BYTES}
        if account.connection_string:
            return client.from_connection_string(account.connection_string, name, **options)
        return client(url or "", name, credential=self._credential, **options)

    @cached_property
    def _session(self) -> requests.Session:
        # The SDK logs every request's URL at INFO.
        logging.getLogger("azure").setLevel(logging.WARNING)
        return plain_session(hosts=8, connections=_CONNECTIONS)

    @cached_property
    def _transport(self) -> Any:
        timeouts = {"connection_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS}
        return _transport()(session=self._session, session_owner=False, **timeouts)

    @cached_property
    def _credential(self) -> Any:
        return _Credential(self._account.client_id)


def _transport() -> Any:
    """Return the class of all clients' transport, the only place that retries and raises StorageUnavailable."""
    from azure.core import exceptions
    from azure.core.pipeline.transport import RequestsTransport

    class Transport(RequestsTransport):  # type: ignore[misc]
        def send(self, request: Any, *, tries: int = _TRIES, **options: Any) -> Any:
            """
            Return an answer for the client to judge.

            A connection that fails or breaks off, as idle ones do, is tried `tries` times. An overloaded storage is
            asked twice, and one that does not answer in time once. Requests that must not be repeated use `tries=1`.
            """
            until = time.monotonic() + _ALL_SECONDS
            for left in reversed(range(tries)):
                options["read_timeout"] = min(_READ_SECONDS, until - time.monotonic())
                try:
                    response = super().send(request, **options)
                except exceptions.AzureError as error:
                    failure = StorageUnavailable("storage is out of reach, or does not answer")
                    failure.__cause__ = error
                    broke = isinstance(error, (exceptions.ServiceRequestError, exceptions.ServiceResponseError))
                    if not broke or isinstance(error, exceptions.ServiceResponseTimeoutError):
                        break
                else:
                    if response.status_code in _DENIED:
                        raise StorageUnavailable(_NO_ENTRY)
                    if response.status_code not in OVERLOADED:
                        return response
                    failure = StorageUnavailable("storage is overloaded")
                    if left < tries - 1:
                        break
                if not left or time.monotonic() + _PAUSE_SECONDS >= until:
                    break
                self.sleep(_PAUSE_SECONDS)
            raise failure

    return Transport


class _Credential:
    """The app's identity; raises StorageUnavailable if its service is out of reach or denies a token."""

    def __init__(self, client_id: str | None) -> None:
        from azure.identity import DefaultAzureCredential

        self._identity = DefaultAzureCredential(managed_identity_client_id=client_id)

    def get_token(self, *scopes: str, **options: Any) -> Any:
        from azure.core.exceptions import AzureError

        try:
            return self._identity.get_token(*scopes, **options)
        except AzureError as error:
            raise StorageUnavailable(_NO_ENTRY) from error
