"""Timer triggers: runs by the schedule, and once at the start for those that were missed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError

from dev.host import protos
from dev.host.schedule import Schedule, Status
from dev.host.settings import resolve

if TYPE_CHECKING:
    from dev.host.monitor import Monitor
    from dev.host.worker import Function, Worker

logger = logging.getLogger(__name__)

_STORAGE_PAUSE = 5.0  # seconds


class Timer:
    """Runs one timer function by its schedule, one run at a time.

    With a monitor its status is kept: a timer without one, or whose next run is past, runs at the start with
    IsPastDue. `useMonitor: false`, and a schedule of several runs a minute, keep none.
    """

    def __init__(self, worker: Worker, function: Function, monitor: Monitor | None) -> None:
        self.schedule = Schedule(resolve(function.trigger["schedule"]))
        monitored = function.trigger.get("useMonitor") is not False
        if not monitored or self.schedule.oftener_than_a_minute(datetime.now(UTC)):
            monitor = None
        self._worker, self._function, self._monitor = worker, function, monitor
        self.disabled = function.disabled
        self._status = Status.new(self.schedule, datetime.now(UTC))
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

    def by_hand(self) -> tuple[protos.TypedData, dict[str, protos.TypedData]]:
        """What an invocation by the admin route gets; it waits for no other run and changes no status."""
        return self._data(past_due=False), {}

    async def _begin(self) -> bool:
        """Read and correct the status; whether a run was missed."""
        if self._monitor is None:
            return False
        name, found = self._function.name, await self._read(self._monitor)
        now = datetime.now(UTC)
        self._status = found.under(self.schedule, now) if found else Status.new(self.schedule, now)
        if self._status != found and not self._stopping.is_set():
            await self._monitor.write(name, self._status)
        return found is None or self._status.next < now

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
        await self._worker.invoke(self._function, self._data(past_due=past_due), {})
        self._status = Status.ran(self.schedule, began)
        if self._monitor:
            await self._monitor.write(self._function.name, self._status)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _data(self, *, past_due: bool) -> protos.TypedData:
        request: dict[str, Any] = {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": self._status.to_dict() if self._monitor else None,
            "IsPastDue": past_due,
        }
        return protos.TypedData(json=json.dumps(request))
