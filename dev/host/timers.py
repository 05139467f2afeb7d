"""Timer triggers: NCRONTAB schedules in UTC, and statuses that tell which run was missed."""

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
from azure_functions_runtime.bindings.datumdef import Datum
from croniter import croniter

from dev.host.queues import happens, storage_client
from dev.host.settings import STORAGE, HostError, resolve

if TYPE_CHECKING:
    from dev.host.worker import Function, Worker

logger = logging.getLogger(__name__)

_HOST_ID = "AzureFunctionsWebHost__hostid"
_CONTAINER = "azure-webjobs-hosts"
_STORAGE_PAUSE = 5.0  # seconds
# .NET's default(DateTime): the timer never ran.
NEVER = datetime.min.replace(tzinfo=UTC)


class Schedule:
    """An NCRONTAB expression of six fields, seconds first; five fields run at second 0."""

    def __init__(self, text: str) -> None:
        fields = text.split()
        if len(fields) == 5:
            fields.insert(0, "0")
        self.text = " ".join(fields)
        if len(fields) != 6 or not croniter.is_valid(self.text, second_at_beginning=True):
            raise HostError(f"{text!r} is not an NCRONTAB schedule of six fields, seconds first")

    def after(self, moment: datetime) -> datetime:
        """Return the first occurrence after a moment; in NCRONTAB a day has to fit both day fields."""
        following: datetime = croniter(self.text, moment, second_at_beginning=True, day_or=False).get_next(datetime)
        return following


class Timer:
    """Runs one timer function by its schedule, one run at a time.

    Where the host has storage, the timer's status is kept there: a timer whose next run is past runs at the start with
    IsPastDue, one without a status waits for its schedule. With `useMonitor: false` none is kept.
    """

    def __init__(self, worker: Worker, function: Function) -> None:
        self.schedule = Schedule(resolve(function.trigger["schedule"]))
        self._worker, self._function = worker, function
        is_monitored = bool(os.environ.get(STORAGE)) and function.trigger.get("useMonitor") is not False
        self._storage = storage_client(BlobServiceClient, STORAGE) if is_monitored else None
        self._stopping = asyncio.Event()
        self._ran(NEVER, datetime.now(UTC))

    async def run(self) -> None:
        """Run at each occurrence until stopped; a run that has begun goes on to its end.

        An occurrence that passed while a run went on is run right after it, once.
        """
        async with self._storage or contextlib.nullcontext():
            due = await self._read_due()
            if due and due < datetime.now(UTC):
                await self._fire(past_due=True)
            elif self._function.trigger.get("runOnStartup"):
                await self._fire()
            elif not due:
                await self._write()
            while not self._stopping.is_set():
                # Short waits follow the clock when it is set or the machine was asleep.
                if (left := (self._next - datetime.now(UTC)).total_seconds()) > 0:
                    await happens(self._stopping, min(left, 30))
                else:
                    await self._fire()

    def stop(self) -> None:
        """Begin no more runs."""
        self._stopping.set()

    def data(self, *, past_due: bool = False) -> Datum:
        """Return the timer's input of a run."""
        status = self._status if self._storage else None
        request = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": past_due}
        return Datum(json.dumps(request), "json")

    async def _fire(self, *, past_due: bool = False) -> None:
        if self._stopping.is_set():
            return
        began = datetime.now(UTC)
        await self._worker.invoke(self._function, self.data(past_due=past_due), {})
        self._ran(began, began)
        await self._write()

    def _ran(self, last: datetime, moment: datetime) -> None:
        self._next = self.schedule.after(moment)
        times = {"Last": last, "Next": self._next, "LastUpdated": moment}
        self._status = {name: time.isoformat() for name, time in times.items()}

    def _blob(self) -> Any:
        """Return the client of the blob that keeps the status, `timers/<host id>/Host.Functions.<name>/status`."""
        host = os.environ.get(_HOST_ID) or hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:24]
        name = f"timers/{host}/Host.Functions.{self._function.name}/status"
        assert self._storage is not None
        return self._storage.get_blob_client(_CONTAINER, name)

    async def _read_due(self) -> datetime | None:
        """Return the time at which the kept status has its next run; None without one that can be read."""
        while self._storage and not self._stopping.is_set():
            try:
                download = await self._blob().download_blob()
                self._status = json.loads(await download.readall())
                return datetime.fromisoformat(self._status["Next"])
            except (ResourceNotFoundError, ValueError, KeyError, TypeError):
                return None
            except AzureError as error:
                logger.error("Timer %s waits for its storage (%s)", self._function.name, type(error).__name__)
                await happens(self._stopping, _STORAGE_PAUSE)
        return None

    async def _write(self) -> None:
        """Keep the status; where storage is out of reach that is only logged, as on the real host."""
        if self._storage is None:
            return
        try:
            with contextlib.suppress(ResourceExistsError):
                await self._storage.create_container(_CONTAINER)
            await self._blob().upload_blob(json.dumps(self._status), overwrite=True)
        except AzureError as error:
            logger.error("The status of timer %s was not kept (%s)", self._function.name, type(error).__name__)
