"""Queue triggers: polling, leases, retries and poison queues as the Storage Queues extension has them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError

from dev.host import protos
from dev.host.connections import queue_service
from dev.host.settings import resolve
from dev.host.threads import threaded
from dev.host.worker import Outcome

if TYPE_CHECKING:
    from datetime import datetime

    from dev.host.settings import QueueOptions
    from dev.host.worker import Function, Worker

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=10)
_POISON = "-poison"
_LONGEST_NAME = 63
_SHORTEST_PAUSE = 0.1


class Message(Protocol):
    """What the SDK gives for a dequeued message."""

    id: str
    content: Any
    pop_receipt: str | None
    dequeue_count: int | None
    inserted_on: datetime | None
    expires_on: datetime | None
    next_visible_on: datetime | None


@dataclass(slots=True)
class Delivery:
    """A dequeued message, its newest pop receipt, and the lock that keeps the two in step."""

    message: Message
    pop_receipt: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class QueueListener:
    """Feeds one function from its queue, `batchSize` + `newBatchThreshold` messages at once at most."""

    def __init__(self, worker: Worker, function: Function, options: QueueOptions, lease: timedelta) -> None:
        self.queue = resolve(function.trigger["queueName"])
        service = queue_service(resolve(function.trigger.get("connection") or ""))
        self._client = service.get_queue_client(self.queue)
        poison = self.queue + _POISON
        has_poison = not self.queue.endswith(_POISON) and len(poison) <= _LONGEST_NAME
        self._poison = service.get_queue_client(poison) if has_poison else None
        self._worker, self._function, self._options = worker, function, options
        self._lease = lease.total_seconds()
        self._running: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Poll until stopped, then wait for the messages that were taken."""
        pause, down = _SHORTEST_PAUSE, False
        longest = max(self._options.max_polling_interval.total_seconds(), _SHORTEST_PAUSE)
        while not self._stopping.is_set():
            try:
                messages = await self._fetch()
            except AzureError as error:
                if not down:
                    logger.error("%s cannot read queue %s: %s", self._function.name, self.queue, _brief(error))
                down = True
                pause = min(pause * 2, longest)
                await self._pause(pause)
                continue
            if down:
                logger.warning("%s reads queue %s again", self._function.name, self.queue)
                pause, down = _SHORTEST_PAUSE, False
            if not messages:
                await self._pause(pause)
                pause = min(pause * 2, longest)
                continue
            pause = _SHORTEST_PAUSE
            for message in messages:
                self._start(message)
            await self._room()
        if self._running:
            await asyncio.wait(self._running)

    def stop(self) -> None:
        """Ask for no more messages; what a fetch under way still brings is run."""
        self._stopping.set()
        self._ended.set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    def _start(self, message: Message) -> None:
        task = asyncio.create_task(self._process(Delivery(message, message.pop_receipt or "")))
        self._running.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ended.set()
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s: a message of queue %s was left", self._function.name, self.queue, exc_info=error)

    async def _room(self) -> None:
        while len(self._running) > self._options.new_batch_threshold and not self._stopping.is_set():
            self._ended.clear()
            await self._ended.wait()

    async def _fetch(self) -> list[Message]:
        pages = self._client.receive_messages(
            messages_per_page=self._options.batch_size, visibility_timeout=max(1, round(self._lease))
        ).by_page()
        try:
            return await threaded(lambda: list(next(pages, ())))
        except ResourceNotFoundError:
            await self._create(self._client)
            return []

    async def _process(self, delivery: Delivery) -> None:
        message = delivery.message
        tries = message.dequeue_count or 1
        body = self._decoded(message)
        if body is None:
            logger.error("%s: message %s of queue %s is not base64", self._function.name, message.id, self.queue)
        if body is None or tries > self._options.max_dequeue_count:
            await self._to_poison(delivery)
            return
        renewal = asyncio.create_task(self._renew(delivery))
        outcome = await self._invoke(message, body)
        async with delivery.lock:
            renewal.cancel()
        try:
            if outcome.succeeded:
                await threaded(lambda: self._client.delete_message(message.id, delivery.pop_receipt))
            elif tries >= self._options.max_dequeue_count:
                await self._to_poison(delivery)
            elif self._poison:
                # A queue without a poison queue keeps its failed message until the lease ends, so that it cannot spin.
                await self._hide(delivery, self._options.visibility_timeout.total_seconds())
        except AzureError as error:
            logger.warning("Message %s of queue %s comes back: %s", message.id, self.queue, _brief(error))

    async def _invoke(self, message: Message, body: bytes) -> Outcome:
        try:
            data = _data(self._function, body)
        except UnicodeDecodeError:
            logger.error("%s: message %s cannot be bound: it is not UTF-8", self._function.name, message.id)
            return Outcome(succeeded=False)
        return await self._worker.invoke(self._function, data, _metadata(message))

    async def _renew(self, delivery: Delivery) -> None:
        while True:
            await asyncio.sleep(self._lease / 2)
            async with delivery.lock:
                try:
                    await self._hide(delivery, self._lease)
                except AzureError as error:
                    logger.warning("The lease of %s was not renewed: %s", delivery.message.id, _brief(error))

    async def _hide(self, delivery: Delivery, seconds: float) -> None:
        message = delivery.message
        updated = await threaded(
            lambda: self._client.update_message(message.id, delivery.pop_receipt, visibility_timeout=round(seconds))
        )
        delivery.pop_receipt = updated.pop_receipt or delivery.pop_receipt

    async def _to_poison(self, delivery: Delivery) -> None:
        """Copy the message as it stands on the wire, for the service's own 7 days, and delete it.

        Where there is no poison queue it stays hidden until its lease ends.
        """
        poison, message = self._poison, delivery.message
        if poison is None:
            return
        try:
            await threaded(lambda: poison.send_message(message.content))
        except ResourceNotFoundError:
            await self._create(poison)
            await threaded(lambda: poison.send_message(message.content))
        logger.warning("Message %s went to queue %s", message.id, poison.queue_name)
        await threaded(lambda: self._client.delete_message(message.id, delivery.pop_receipt))

    async def _create(self, client: Any) -> None:
        try:
            await threaded(client.create_queue)
        except ResourceExistsError:
            logger.debug("Queue %s was made by someone else", client.queue_name)

    def _decoded(self, message: Message) -> bytes | None:
        text = str(message.content)
        if not self._options.base64:
            return text.encode()
        try:
            # .NET's decoder skips white space and takes nothing else that is not base64.
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            return None


def by_hand(function: Function, text: str) -> tuple[protos.TypedData, dict[str, protos.TypedData]]:
    """What an invocation by the admin route gets: `text` for its trigger, and no message id."""
    return _data(function, text.encode("utf-8", "replace")), {"Id": protos.TypedData(string="")}


def _data(function: Function, body: bytes) -> protos.TypedData:
    if str(function.trigger.get("dataType") or "").lower() == "binary":
        return protos.TypedData(bytes=body)
    return protos.TypedData(string=body.decode())


def _metadata(message: Message) -> dict[str, protos.TypedData]:
    times = {
        "InsertionTime": message.inserted_on,
        "ExpirationTime": message.expires_on,
        "NextVisibleTime": message.next_visible_on,
    }
    return {
        "Id": protos.TypedData(string=message.id),
        "PopReceipt": protos.TypedData(string=message.pop_receipt),
        "DequeueCount": protos.TypedData(json=str(message.dequeue_count or 1)),
        **{name: protos.TypedData(string=time.isoformat()) for name, time in times.items() if time},
    }


def _brief(error: AzureError) -> str:
    code = error.status_code if isinstance(error, HttpResponseError) else None
    return f"storage answered {code}" if code else f"storage is out of reach ({type(error).__name__})"
