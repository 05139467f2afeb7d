"""Timer triggers: NCRONTAB schedules in UTC, and statuses that tell which run was missed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from croniter import croniter

from dev.host.queues import storage_client, threaded
from dev.host.settings import HostError, resolve
from dev.host.worker import Message

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

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
        self._each_minute = all(field == "*" for field in fields[1:])

    def after(self, moment: datetime) -> datetime:
        """Return the first occurrence after a moment; in NCRONTAB a day has to fit both day fields."""
        following: datetime = croniter(self.text, moment, second_at_beginning=True, day_or=False).get_next(datetime)
        return following

    def oftener_than_a_minute(self, now: datetime) -> bool:
        """True if the host keeps no status of it."""
        return self._each_minute and self.after(self.after(now)) < now + timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """The last run of a timer, its next one, and the moment from which that was reckoned."""

    last: datetime
    next: datetime
    updated: datetime

    @classmethod
    def ran(cls, schedule: Schedule, at: datetime) -> Status:
        """Return the status after a run that began at a moment."""
        return cls(last=at, next=schedule.after(at), updated=at)

    @classmethod
    def new(cls, schedule: Schedule, now: datetime) -> Status:
        """Return the status of a timer that never ran."""
        return cls(last=NEVER, next=schedule.after(now), updated=now)

    def under(self, schedule: Schedule, now: datetime) -> Status:
        """Return the same where it fits the schedule; a schedule that has changed since makes no run late."""
        since = self.last if self.last != NEVER else self.updated
        following = schedule.after(since if since != NEVER else now)
        if following == self.next:
            return self
        if following < now:
            return self.new(schedule, now)
        return replace(self, last=NEVER, next=following, updated=since)

    def to_dict(self) -> dict[str, str]:
        """Return it as the host writes it, for the function and for its blob."""
        times = {"Last": self.last, "Next": self.next, "LastUpdated": self.updated}
        return {name: time.isoformat() for name, time in times.items()}

    @classmethod
    def from_json(cls, text: str | bytes) -> Status:
        """Read the JSON of `to_dict`; ValueError where it is something else."""
        try:
            fields = json.loads(text)
            last, following, updated = (
                datetime.fromisoformat(fields[name]).astimezone(UTC) for name in ("Last", "Next", "LastUpdated")
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError("not the status of a timer") from error
        return cls(last=last, next=following, updated=updated)


class Monitor:
    """Reads and writes the status blob of each timer, `timers/<host id>/Host.Functions.<name>/status`."""

    def __init__(self) -> None:
        from azure.storage.blob import BlobServiceClient

        self._container: ContainerClient = storage_client(BlobServiceClient, "").get_container_client(_CONTAINER)
        directory = hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:24]
        self._folder = f"timers/{os.environ.get(_HOST_ID) or directory}"

    async def read(self, function: str) -> Status | None:
        """Return the status, or None without a readable one; AzureError while storage is out of reach."""
        try:
            return Status.from_json(await threaded(lambda: self._blob(function).download_blob().readall()))
        except (ResourceNotFoundError, ValueError):
            return None

    async def write(self, function: str, status: Status) -> None:
        """Keep the status; where storage is out of reach that is only logged, as on the real host."""
        text = json.dumps(status.to_dict())
        try:
            try:
                await threaded(lambda: self._blob(function).upload_blob(text, overwrite=True))
            except ResourceNotFoundError:
                with contextlib.suppress(ResourceExistsError):
                    await threaded(self._container.create_container)
                await threaded(lambda: self._blob(function).upload_blob(text, overwrite=True))
        except AzureError as error:
            logger.error("The status of timer %s was not kept (%s)", function, type(error).__name__)

    def _blob(self, function: str) -> Any:
        return self._container.get_blob_client(f"{self._folder}/Host.Functions.{function}/status")


class Timer:
    """Runs one timer function by its schedule, one run at a time.

    With a monitor its status is kept: a timer whose next run is past runs at the start with IsPastDue, one without a
    status waits for its schedule. `useMonitor: false`, and a schedule of several runs a minute, keep none.
    """

    def __init__(self, worker: Worker, function: Function, monitor: Monitor | None) -> None:
        now = datetime.now(UTC)
        self.schedule = Schedule(resolve(function.trigger["schedule"]))
        monitored = function.trigger.get("useMonitor") is not False and not self.schedule.oftener_than_a_minute(now)
        self._worker, self._function, self._monitor = worker, function, monitor if monitored else None
        self._status = Status.new(self.schedule, now)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run at each occurrence until stopped; a run that has begun goes on to its end.

        An occurrence that passed while a run went on is run right after it, once.
        """
        if await self._begin():
            await self._fire(past_due=True)
        elif self._function.trigger.get("runOnStartup"):
            await self._fire()
        while not self._stopping.is_set():
            # Short waits follow the clock when it is set or the machine was asleep.
            if (left := (self._status.next - datetime.now(UTC)).total_seconds()) > 0:
                await self._pause(min(left, 30))
            else:
                await self._fire()

    def stop(self) -> None:
        """Begin no more runs."""
        self._stopping.set()

    def data(self, *, past_due: bool = False) -> Message:
        """Return the timer's input of a run."""
        status = self._status.to_dict() if self._monitor else None
        request = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": past_due}
        return Message(json=json.dumps(request))

    async def _begin(self) -> bool:
        """Read and correct the status; True if a run was missed."""
        if self._monitor is None:
            return False
        found = await self._read(self._monitor)
        now = datetime.now(UTC)
        self._status = found.under(self.schedule, now) if found else Status.new(self.schedule, now)
        if self._status != found and not self._stopping.is_set():
            await self._monitor.write(self._function.name, self._status)
        return self._status.next < now

    async def _read(self, monitor: Monitor) -> Status | None:
        while not self._stopping.is_set():
            try:
                return await monitor.read(self._function.name)
            except AzureError as error:
                logger.error("Timer %s waits for its storage (%s)", self._function.name, type(error).__name__)
                await self._pause(_STORAGE_PAUSE)
        return None

    async def _fire(self, *, past_due: bool = False) -> None:
        if self._stopping.is_set():
            return
        began = datetime.now(UTC)
        await self._worker.invoke(self._function, self.data(past_due=past_due), {})
        self._status = Status.ran(self.schedule, began)
        if self._monitor:
            await self._monitor.write(self._function.name, self._status)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
