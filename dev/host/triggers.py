"""Queue triggers that behave as the Storage Queues extension, and timers with NCRONTAB schedules in UTC."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient
from azure_functions_runtime.bindings.datumdef import Datum
from croniter import croniter

from dev.host.settings import HostError, QueueOptions, resolve, setting
from dev.host.worker import Function, Worker

if TYPE_CHECKING:
    from azure.storage.queue import QueueMessage

logger = logging.getLogger(__name__)

LEASE_SECONDS = 600
_POISON = "-poison"
_SHORTEST_PAUSE, _STORAGE_PAUSE = 0.1, 5.0  # seconds
_STORAGE = "AzureWebJobsStorage"
_HOST_ID = "AzureFunctionsWebHost__hostid"
_CONTAINER = "azure-webjobs-hosts"
# .NET's default(DateTime): the timer never ran.
NEVER = datetime.min.replace(tzinfo=UTC)


def _client(kind: Any, name: str) -> Any:
    """Return a client for the connection string in a setting; HostError if it is missing or malformed."""
    # The listener has its own backoff; the SDK's retries would hide for long that storage is down.
    options = {"connection_timeout": 5, "read_timeout": 30, "retry_total": 1, "initial_backoff": 1, "increment_base": 1}
    try:
        return kind.from_connection_string(setting(name), **options)
    except ValueError as error:
        raise HostError(f"the setting {name} is no connection string") from error


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most `seconds` long; True if it has happened."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


class QueueListener:
    """Runs one function for the messages of its queue, at most `batchSize` + `newBatchThreshold` at once."""

    def __init__(self, worker: Worker, function: Function, options: QueueOptions, lease: float) -> None:
        self.function, self._worker, self._options, self._lease = function, worker, options, lease
        name = resolve(function.trigger["queueName"])
        self._service = _client(QueueServiceClient, function.trigger.get("connection") or _STORAGE)
        self._queue = self._service.get_queue_client(name)
        self._poison = None if name.endswith(_POISON) else self._service.get_queue_client(name + _POISON)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until stopped, then wait for the messages that are being processed."""
        longest = max(self._options.max_polling_interval.total_seconds(), _SHORTEST_PAUSE)
        pause = _SHORTEST_PAUSE
        async with self._service:
            while not stop.is_set():
                messages = await self._fetch()
                for message in messages or ():
                    task = asyncio.create_task(self._process(message))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                if messages:
                    pause = _SHORTEST_PAUSE
                    while len(self._running) > self._options.new_batch_threshold and not stop.is_set():
                        await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                    continue
                # The host never creates a missing queue; it looks again.
                await _happens(stop, longest if messages is None else pause)
                pause = min(pause * 2, longest)
            await asyncio.gather(*self._running)

    async def _fetch(self) -> list[QueueMessage] | None:
        """Return the next messages, or None if the queue cannot be read."""
        size, seconds = self._options.batch_size, max(1, round(self._lease))
        received = self._queue.receive_messages(max_messages=size, messages_per_page=size, visibility_timeout=seconds)
        try:
            return [message async for message in received]
        except AzureError as error:
            logger.warning("Queue %s cannot be read (%s)", self._queue.queue_name, type(error).__name__)
            return None

    async def _process(self, message: QueueMessage) -> None:
        most, tries = self._options.max_dequeue_count, message.dequeue_count or 1
        try:
            if tries > most:
                await self._to_poison(message)
                return
            ended = asyncio.Event()
            renewal = asyncio.create_task(self._renew(message, ended))
            data = Datum(str(message.content), "string")
            succeeded, _ = await self._worker.invoke(self.function, data, _metadata(message))
            ended.set()
            await renewal
            if succeeded:
                await self._queue.delete_message(message)
            elif tries >= most:
                await self._to_poison(message)
            elif self._poison:
                # Without a poison queue a failed message stays hidden until its lease ends, so that it does not spin.
                await self._hide(message, self._options.visibility_timeout.total_seconds())
        except AzureError as error:
            logger.warning("Message %s comes back (%s)", message.id, type(error).__name__)

    async def _renew(self, message: QueueMessage, ended: asyncio.Event) -> None:
        while not await _happens(ended, self._lease / 2):
            try:
                await self._hide(message, self._lease)
            except AzureError as error:
                logger.warning("The lease of %s was not renewed (%s)", message.id, type(error).__name__)

    async def _hide(self, message: QueueMessage, seconds: float) -> None:
        updated = await self._queue.update_message(message, visibility_timeout=round(seconds))
        message.pop_receipt = updated.pop_receipt

    async def _to_poison(self, message: QueueMessage) -> None:
        """Move the message to the poison queue, with its content unchanged and the service's expiry of 7 days.

        Without a poison queue it stays hidden until its lease ends.
        """
        if self._poison is None:
            return
        with contextlib.suppress(ResourceExistsError):
            await self._poison.create_queue()
        await self._poison.send_message(message.content)
        logger.warning("Message %s went to queue %s", message.id, self._poison.queue_name)
        await self._queue.delete_message(message)


def _metadata(message: QueueMessage) -> dict[str, Datum]:
    times = {"InsertionTime": message.inserted_on, "ExpirationTime": message.expires_on}
    return {
        "Id": Datum(message.id, "string"),
        "DequeueCount": Datum(str(message.dequeue_count or 1), "json"),
        **{name: Datum(time.isoformat(), "string") for name, time in times.items() if time},
    }


class Schedule:
    """An NCRONTAB expression of six fields, seconds first; one of five fields runs at second 0."""

    def __init__(self, text: str) -> None:
        self.text = f"0 {text}" if len(text.split()) == 5 else text
        if len(self.text.split()) != 6 or not croniter.is_valid(self.text, second_at_beginning=True):
            raise HostError(f"{text!r} is not an NCRONTAB schedule of six fields, seconds first")

    def after(self, moment: datetime) -> datetime:
        """Return the first occurrence after a moment; in NCRONTAB a day has to match both day fields."""
        following: datetime = croniter(self.text, moment, second_at_beginning=True, day_or=False).get_next(datetime)
        return following


class Timer:
    """Runs one timer function by its schedule, one run at a time.

    The status is stored where the host has storage, except with `useMonitor: false`. At the start, a timer whose next
    run has passed runs with IsPastDue; a timer without a status waits for its schedule.
    """

    def __init__(self, worker: Worker, function: Function) -> None:
        self.function, self._worker = function, worker
        self._schedule = Schedule(resolve(function.trigger["schedule"]))
        is_monitored = bool(os.environ.get(_STORAGE)) and function.trigger.get("useMonitor") is not False
        self._storage = _client(BlobServiceClient, _STORAGE) if is_monitored else None
        self._ran(NEVER, datetime.now(UTC))

    async def run(self, stop: asyncio.Event) -> None:
        """Run at each occurrence until stopped; a started run finishes.

        After a run that lasts beyond the next occurrences, the timer runs once more at once.
        """
        async with self._storage or contextlib.nullcontext():
            due = await self._read_due(stop)
            if stop.is_set():
                return
            if due and due < datetime.now(UTC):
                await self._fire(past_due=True)
            elif self.function.trigger.get("runOnStartup"):
                await self._fire()
            elif not due:
                await self._write()
            while not stop.is_set():
                # Short waits notice a changed clock and a machine that slept.
                if (left := (self._next - datetime.now(UTC)).total_seconds()) > 0:
                    await _happens(stop, min(left, 30))
                else:
                    await self._fire()

    def data(self, *, past_due: bool = False) -> Datum:
        """Return the trigger input of a run."""
        status = self._status if self._storage else None
        request = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": past_due}
        return Datum(json.dumps(request), "json")

    async def _fire(self, *, past_due: bool = False) -> None:
        began = datetime.now(UTC)
        await self._worker.invoke(self.function, self.data(past_due=past_due), {})
        self._ran(began, began)
        await self._write()

    def _ran(self, last: datetime, moment: datetime) -> None:
        self._next = self._schedule.after(moment)
        times = {"Last": last, "Next": self._next, "LastUpdated": moment}
        self._status = {name: time.isoformat() for name, time in times.items()}

    def _blob(self) -> Any:
        """Return the client of the status blob, `timers/<host id>/Host.Functions.<name>/status`."""
        host = os.environ.get(_HOST_ID) or hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:24]
        assert self._storage is not None
        return self._storage.get_blob_client(_CONTAINER, f"timers/{host}/Host.Functions.{self.function.name}/status")

    async def _read_due(self, stop: asyncio.Event) -> datetime | None:
        """Return the next run in the stored status; None without a readable status."""
        while self._storage and not stop.is_set():
            try:
                download = await self._blob().download_blob()
                self._status = json.loads(await download.readall())
                return datetime.fromisoformat(self._status["Next"])
            except (ResourceNotFoundError, ValueError, KeyError, TypeError):
                return None
            except AzureError as error:
                logger.error("Timer %s waits for its storage (%s)", self.function.name, type(error).__name__)
                await _happens(stop, _STORAGE_PAUSE)
        return None

    async def _write(self) -> None:
        """Store the status; an error of storage is only logged, as on the real host."""
        if self._storage is None:
            return
        try:
            with contextlib.suppress(ResourceExistsError):
                await self._storage.create_container(_CONTAINER)
            await self._blob().upload_blob(json.dumps(self._status), overwrite=True)
        except AzureError as error:
            logger.error("The status of timer %s was not stored (%s)", self.function.name, type(error).__name__)
