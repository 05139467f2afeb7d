"""Queue triggers: polling, leases, retries and poison queues as the Storage Queues extension has them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueServiceClient
from azure_functions_runtime.bindings.datumdef import Datum

from dev.host.settings import STORAGE, HostError, resolve, setting

if TYPE_CHECKING:
    from azure.storage.queue import QueueMessage

    from dev.host.settings import QueueOptions
    from dev.host.worker import Function, Worker

logger = logging.getLogger(__name__)

LEASE_SECONDS = 600
_POISON = "-poison"
_SHORTEST_PAUSE = 0.1


def storage_client(kind: Any, name: str) -> Any:
    """Return a client for the connection string in a setting; HostError where it is missing or cannot be read."""
    # The listener has its own backoff; the SDK's would only hide that storage is down.
    options = {"connection_timeout": 5, "read_timeout": 30, "retry_total": 1, "initial_backoff": 1, "increment_base": 1}
    try:
        return kind.from_connection_string(setting(name), **options)
    except ValueError as error:
        raise HostError(f"the setting {name} is no connection string") from error


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, so many seconds at most; True if it has happened."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


class QueueListener:
    """Feeds one function from its queue, `batchSize` + `newBatchThreshold` messages at once at most."""

    def __init__(self, worker: Worker, function: Function, options: QueueOptions, lease: float) -> None:
        self.queue = resolve(function.trigger["queueName"])
        self._service = storage_client(QueueServiceClient, function.trigger.get("connection") or STORAGE)
        self._client = self._service.get_queue_client(self.queue)
        poison = self._service.get_queue_client(self.queue + _POISON)
        self._poison = None if self.queue.endswith(_POISON) else poison
        self._worker, self._function, self._options, self._lease = worker, function, options, lease
        self._longest = max(options.max_polling_interval.total_seconds(), _SHORTEST_PAUSE)
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._is_lost = False

    async def run(self) -> None:
        """Poll until stopped, then wait for the messages that were taken."""
        pause = _SHORTEST_PAUSE
        async with self._service:
            while not self._stopping.is_set():
                messages = await self._fetch()
                for message in messages or ():
                    task = asyncio.create_task(self._process(message))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                if messages:
                    pause = _SHORTEST_PAUSE
                    while len(self._running) > self._options.new_batch_threshold and not self._stopping.is_set():
                        await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                    continue
                # A missing queue is looked for, never made.
                await happens(self._stopping, self._longest if messages is None else pause)
                pause = min(pause * 2, self._longest)
            if self._running:
                await asyncio.wait(self._running)

    def stop(self) -> None:
        """Ask for no more messages; the last fetch's are run."""
        self._stopping.set()

    async def _fetch(self) -> list[QueueMessage] | None:
        """Return the next messages, or None where the queue cannot be read; each change of that is logged once."""
        size, seconds = self._options.batch_size, max(1, round(self._lease))
        received = self._client.receive_messages(max_messages=size, messages_per_page=size, visibility_timeout=seconds)
        try:
            messages = [message async for message in received]
        except AzureError as error:
            if not self._is_lost:
                logger.error("%s cannot read queue %s: %s", self._function.name, self.queue, _brief(error))
            self._is_lost = True
            return None
        if self._is_lost:
            logger.warning("%s reads queue %s again", self._function.name, self.queue)
        self._is_lost = False
        return messages

    async def _process(self, message: QueueMessage) -> None:
        most, tries = self._options.max_dequeue_count, message.dequeue_count or 1
        try:
            if tries > most:
                await self._to_poison(message)
                return
            ended = asyncio.Event()
            renewal = asyncio.create_task(self._renew(message, ended))
            data = Datum(str(message.content), "string")
            succeeded, _ = await self._worker.invoke(self._function, data, _metadata(message))
            ended.set()
            await renewal
            if succeeded:
                await self._client.delete_message(message)
            elif tries >= most:
                await self._to_poison(message)
            elif self._poison:
                # A queue without a poison queue keeps its failed message until the lease ends, so that it cannot spin.
                await self._hide(message, self._options.visibility_timeout.total_seconds())
        except AzureError as error:
            logger.warning("Message %s of queue %s comes back: %s", message.id, self.queue, _brief(error))

    async def _renew(self, message: QueueMessage, ended: asyncio.Event) -> None:
        while not await happens(ended, self._lease / 2):
            try:
                await self._hide(message, self._lease)
            except AzureError as error:
                logger.warning("The lease of %s was not renewed: %s", message.id, _brief(error))

    async def _hide(self, message: QueueMessage, seconds: float) -> None:
        updated = await self._client.update_message(message, visibility_timeout=round(seconds))
        message.pop_receipt = updated.pop_receipt

    async def _to_poison(self, message: QueueMessage) -> None:
        """Copy the message as it is on the wire, for the service's own 7 days, and delete it.

        Where there is no poison queue it stays hidden until its lease ends.
        """
        poison = self._poison
        if poison is None:
            return
        with contextlib.suppress(ResourceExistsError):
            await poison.create_queue()
        await poison.send_message(message.content)
        logger.warning("Message %s went to queue %s", message.id, poison.queue_name)
        await self._client.delete_message(message)


def by_hand(text: str) -> tuple[Datum, dict[str, Datum]]:
    """Return the input of a run by hand: `text` in place of a message, and no message id."""
    return Datum(text.encode("utf-8", "replace").decode(), "string"), {"Id": Datum("", "string")}


def _metadata(message: QueueMessage) -> dict[str, Datum]:
    times = {"InsertionTime": message.inserted_on, "ExpirationTime": message.expires_on}
    return {
        "Id": Datum(message.id, "string"),
        "DequeueCount": Datum(str(message.dequeue_count or 1), "json"),
        **{name: Datum(time.isoformat(), "string") for name, time in times.items() if time},
    }


def _brief(error: AzureError) -> str:
    if isinstance(error, ResourceNotFoundError):
        return "the queue does not exist"
    code = getattr(error, "status_code", None)
    return f"storage answered {code}" if code else f"storage is out of reach ({type(error).__name__})"
