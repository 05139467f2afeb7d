"""The data account: made on first use outside Azure, asked again or given up within five seconds by its transport."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dev.listener import Listener
from shared.errors import StorageUnavailable
from shared.settings import Settings, StorageAccount
from shared.storage import rows
from shared.storage.account import CONTAINERS, QUEUES, TABLES, Storage, once
from shared.storage.messages import put_payload, send
from tests.breaking import break_connections

ROW = {"PartitionKey": "p", "RowKey": "r"}
USES: tuple[Callable[[Storage], Any], ...] = (
    lambda storage: rows.get(storage.table("events"), "p", "r"),
    lambda storage: rows.put(storage.table("events"), ROW),
    lambda storage: send(storage, "events", {"id": "a"}, name="a"),
    lambda storage: send(storage, "events", {"id": "a" * 70_000}, name="a"),
)


def account_at(port: int) -> StorageAccount:
    services = "".join(f"{name}Endpoint=http://127.0.0.1:{port}/a;" for name in ("Blob", "Queue", "Table"))
    return StorageAccount(connection_string=f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=aaaa;{services}")


def breaks_off(server: socket.socket) -> None:
    """Close each connection late, without an answer."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Timer(2.8, connection.close).start()


@pytest.fixture(params=["hangs", "breaks off late", "takes no connection", "refuses"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a storage that cannot be used."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        if request.param in ("hangs", "breaks off late"):
            one.listen(64)
        if request.param == "breaks off late":
            threading.Thread(target=breaks_off, args=(one,), daemon=True).start()
        if request.param == "takes no connection":
            one.listen(0)
            with socket.create_connection(one.getsockname()):
                yield one.getsockname()[1]
            return
        yield one.getsockname()[1]


@pytest.mark.slow
def test_a_storage_that_does_not_answer_is_an_error_within_five_seconds(port: int) -> None:
    def seconds(use: Callable[[Storage], Any], prepared: bool) -> float:
        storage = Storage(account_at(port), prepared=prepared)
        for kind in ("table", "queue", "container"):
            storage._connect(kind, "events")  # the SDK is loaded by then
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            use(storage)
        return time.monotonic() - began

    with ThreadPoolExecutor(len(USES) * 2) as pool:
        works = [pool.submit(seconds, use, prepared) for use in USES for prepared in (True, False)]
        assert max(work.result() for work in works) < 5


@pytest.mark.parametrize(
    ("answers", "unavailable"),
    [([401], True), ([403], True), ([503, 500], True), ([429, 201], False), ([408, 403], True), ([409], False)],
    ids=str,
)
def test_an_overloaded_storage_is_asked_twice_and_one_without_entry_once(answers: list[int], unavailable: bool) -> None:
    left = iter(answers)
    with Listener(lambda received: (next(left), {})) as listener:
        queue = Storage(account_at(int(listener.origin.rpartition(":")[2])), prepared=True).queue("events")
        with pytest.raises(StorageUnavailable if unavailable else Exception) as raised:
            queue.send_message("x")
        assert isinstance(raised.value, StorageUnavailable) == unavailable
        assert len(listener.received) == len(answers)


def test_an_identity_without_a_token_is_an_unavailable_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.identity import CredentialUnavailableError, DefaultAzureCredential

    def fail(*_: Any, **__: Any) -> None:
        raise CredentialUnavailableError("none")

    monkeypatch.setattr(DefaultAzureCredential, "get_token", fail)
    at = "https://127.0.0.1:9/"
    storage = Storage(StorageAccount(table=at, queue=at, blob=at), prepared=True)
    for use in USES:
        with pytest.raises(StorageUnavailable, match="denies this app access"):
            use(storage)


def names(storage: Storage) -> set[str]:
    from azure.data.tables import TableServiceClient
    from azure.storage.blob import BlobServiceClient
    from azure.storage.queue import QueueServiceClient

    connection = storage._account.connection_string or ""
    with TableServiceClient.from_connection_string(connection) as tables:
        found = {f"table {one.name}" for one in tables.list_tables()}
    with QueueServiceClient.from_connection_string(connection) as queues:
        found |= {f"queue {one.name}" for one in queues.list_queues()}
    with BlobServiceClient.from_connection_string(connection) as blobs:
        return found | {f"container {one.name}" for one in blobs.list_containers()}


def test_each_part_of_the_account_is_made_by_its_first_use_once_a_process(settings: Settings) -> None:
    storage = Storage(settings.storage)
    send(storage, "events", {"id": "a"}, name="a")
    rows.transact(storage.table("calls"), [("upsert", ROW)])
    put_payload(storage, "a", b"1")
    assert names(storage) == {"queue events", "table calls", "container payloads"}
    other = Storage(settings.storage)
    watched = break_connections(other, "NONE")
    assert rows.get(other.table("calls"), "p", "r") is not None
    assert len(watched.sent) == 1


def test_an_account_made_ready_has_all_its_parts_and_may_be_made_ready_again(settings: Settings) -> None:
    storage = Storage(settings.storage)
    storage.ready()
    Storage(settings.storage).ready()
    parts = {f"queue {name}{suffix}" for name in QUEUES for suffix in ("", "-poison")}
    assert names(storage) == parts | {f"table {name}" for name in TABLES} | {f"container {one}" for one in CONTAINERS}


def test_a_failed_creation_is_repeated_by_the_next_use(settings: Settings) -> None:
    storage = Storage(settings.storage)
    break_connections(storage, "POST", times=9, after=False)
    with pytest.raises(StorageUnavailable):
        storage.table("events")
    break_connections(storage, "NONE")
    rows.put(storage.table("events"), ROW)


def test_an_account_that_the_templates_prepared_is_not_made(settings: Settings) -> None:
    from azure.core.exceptions import HttpResponseError

    storage = Storage(settings.storage, prepared=True)
    with pytest.raises(HttpResponseError):
        rows.put(storage.table("events"), ROW)
    assert names(storage) == set()


def test_threads_that_ask_first_together_get_the_same_one_and_an_error_is_not_kept() -> None:
    together, errors = threading.Barrier(8), iter([OSError()])

    @once
    def make(name: str) -> object:
        for error in errors:
            raise error
        threading.Event().wait(0.02)
        return object()

    def ask(name: str) -> object:
        together.wait(10)
        return make(name)

    with pytest.raises(OSError):
        make("one")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(ask, ["one"] * 8))
    assert len({id(one) for one in made}) == 1
    assert make("other") is not made[0]
