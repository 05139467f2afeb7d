"""Queue triggers: polling, leases, retries and poison queues as the Storage Queues extension has them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.queue import QueueServiceClient
from requests.adapters import HTTPAdapter

from dev.host.settings import STORAGE, HostError, connection_string, resolve
from dev.host.worker import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.storage.queue import QueueMessage

    from dev.host.settings import QueueOptions
    from dev.host.worker import Function, Worker

T = TypeVar("T")
logger = logging.getLogger(__name__)

LEASE_SECONDS = 600
_POISON = "-poison"
_LONGEST_NAME = 63
_SHORTEST_PAUSE = 0.1
# The storage SDK's calls block; none of them may wait for a thread that runs a function, or for a connection.
_threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="storage")


async def threaded(call: Callable[[], T]) -> T:
    """Return or raise what the call does, without holding up the loop."""
    return await asyncio.get_running_loop().run_in_executor(_threads, call)


def storage_client(kind: Any, connection: str) -> Any:
    """Return a client of a connection; HostError where its setting is missing or cannot be read."""
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_maxsize=64))
    session.mount("https://", HTTPAdapter(pool_maxsize=64))
    # The listener has its own backoff; the SDK's would only hide that storage is down.
    transport = RequestsTransport(session=session, session_owner=False, connection_timeout=5, read_timeout=30)
    options = {"transport": transport, "retry_total": 1, "initial_backoff": 1, "increment_base": 1}
    try:
        return kind.from_connection_string(connection_string(connection), **options)
    except ValueError as error:
        raise HostError(f"the setting {connection or STORAGE} is no connection string") from error


@dataclass(slots=True)
class _Delivery:
    """A dequeued message, its newest pop receipt, and the lock that keeps the two in step."""

    message: QueueMessage
    pop_receipt: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class QueueListener:
    """Feeds one function from its queue, `batchSize` + `newBatchThreshold` messages at once at most."""

    def __init__(self, worker: Worker, function: Function, options: QueueOptions, lease: float) -> None:
        self.queue = resolve(function.trigger["queueName"])
        service = storage_client(QueueServiceClient, resolve(function.trigger.get("connection") or ""))
        self._client = service.get_queue_client(self.queue)
        poison = self.queue + _POISON
        has_poison = not self.queue.endswith(_POISON) and len(poison) <= _LONGEST_NAME
        self._poison = service.get_queue_client(poison) if has_poison else None
        self._worker, self._function, self._options, self._lease = worker, function, options, lease
        self._longest = max(options.max_polling_interval.total_seconds(), _SHORTEST_PAUSE)
        self._running: set[asyncio.Task[None]] = set()
        self._ended, self._stopping = asyncio.Event(), asyncio.Event()
        self._trouble = ""

    async def run(self) -> None:
        """Poll until stopped, then wait for the messages that were taken."""
        pause = _SHORTEST_PAUSE
        while not self._stopping.is_set():
            messages = await self._fetch()
            if messages is None:
                # A missing queue is looked for, never made.
                pause = self._longest
            for message in messages or ():
                pause = _SHORTEST_PAUSE
                task = asyncio.create_task(self._process(_Delivery(message, message.pop_receipt or "")))
                self._running.add(task)
                task.add_done_callback(self._end)
            if messages:
                await self._room()
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            pause = min(pause * 2, self._longest)
        if self._running:
            await asyncio.wait(self._running)

    def stop(self) -> None:
        """Ask for no more messages; the last fetch's are run."""
        self._stopping.set()
        self._ended.set()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ended.set()
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s: a message of queue %s was left", self._function.name, self.queue, exc_info=error)

    async def _room(self) -> None:
        while len(self._running) > self._options.new_batch_threshold and not self._stopping.is_set():
            self._ended.clear()
            await self._ended.wait()

    async def _fetch(self) -> list[QueueMessage] | None:
        """Return the next messages, or None where the queue cannot be read; each change of that is logged once."""
        pages = self._client.receive_messages(
            messages_per_page=self._options.batch_size, visibility_timeout=max(1, round(self._lease))
        ).by_page()
        messages, trouble = None, ""
        try:
            messages = await threaded(lambda: list(next(pages, ())))
        except ResourceNotFoundError:
            trouble = "the queue does not exist"
        except AzureError as error:
            trouble = _brief(error)
        if trouble and not self._trouble:
            logger.error("%s cannot read queue %s: %s", self._function.name, self.queue, trouble)
        elif self._trouble and not trouble:
            logger.warning("%s reads queue %s again", self._function.name, self.queue)
        self._trouble = trouble
        return messages

    async def _process(self, delivery: _Delivery) -> None:
        message, most = delivery.message, self._options.max_dequeue_count
        tries = message.dequeue_count or 1
        if tries > most:
            await self._to_poison(delivery)
            return
        renewal = asyncio.create_task(self._renew(delivery))
        data = _data(self._function, str(message.content))
        succeeded = (await self._worker.invoke(self._function, data, _metadata(message))).succeeded
        async with delivery.lock:
            renewal.cancel()
        try:
            if succeeded:
                await threaded(lambda: self._client.delete_message(message.id, delivery.pop_receipt))
            elif tries >= most:
                await self._to_poison(delivery)
            elif self._poison:
                # A queue without a poison queue keeps its failed message until the lease ends, so that it cannot spin.
                await self._hide(delivery, self._options.visibility_timeout.total_seconds())
        except AzureError as error:
            logger.warning("Message %s of queue %s comes back: %s", message.id, self.queue, _brief(error))

    async def _renew(self, delivery: _Delivery) -> None:
        while True:
            await asyncio.sleep(self._lease / 2)
            async with delivery.lock:
                try:
                    await self._hide(delivery, self._lease)
                except AzureError as error:
                    logger.warning("The lease of %s was not renewed: %s", delivery.message.id, _brief(error))

    async def _hide(self, delivery: _Delivery, seconds: float) -> None:
        id, receipt = delivery.message.id, delivery.pop_receipt
        updated = await threaded(lambda: self._client.update_message(id, receipt, visibility_timeout=round(seconds)))
        delivery.pop_receipt = updated.pop_receipt or receipt

    async def _to_poison(self, delivery: _Delivery) -> None:
        """Copy the message as it is on the wire, for the service's own 7 days, and delete it.

        Where there is no poison queue it stays hidden until its lease ends.
        """
        poison, message = self._poison, delivery.message
        if poison is None:
            return
        try:
            await threaded(lambda: poison.send_message(message.content))
        except ResourceNotFoundError:
            with contextlib.suppress(ResourceExistsError):
                await threaded(poison.create_queue)
            await threaded(lambda: poison.send_message(message.content))
        logger.warning("Message %s went to queue %s", message.id, poison.queue_name)
        await threaded(lambda: self._client.delete_message(message.id, delivery.pop_receipt))


def by_hand(function: Function, text: str) -> tuple[Message, dict[str, Message]]:
    """Return an admin call's input of a function: `text` for its trigger, and no message id."""
    return _data(function, text.encode("utf-8", "replace").decode()), {"Id": Message(string="")}


def _data(function: Function, text: str) -> Message:
    binary = str(function.trigger.get("dataType") or "").lower() == "binary"
    return Message(bytes=text.encode()) if binary else Message(string=text)


def _metadata(message: QueueMessage) -> dict[str, Message]:
    times = {
        "InsertionTime": message.inserted_on,
        "ExpirationTime": message.expires_on,
        "NextVisibleTime": message.next_visible_on,
    }
    return {
        "Id": Message(string=message.id),
        "PopReceipt": Message(string=message.pop_receipt),
        "DequeueCount": Message(json=str(message.dequeue_count or 1)),
        **{name: Message(string=time.isoformat()) for name, time in times.items() if time},
    }


def _brief(error: AzureError) -> str:
    code = getattr(error, "status_code", None)
    return f"storage answered {code}" if code else f"storage is out of reach ({type(error).__name__})"
